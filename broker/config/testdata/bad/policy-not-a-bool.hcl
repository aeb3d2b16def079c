policy {
  deny "large" {
    condition = new.max_nodes
  }
}
pool "a" {
  module = "../modules/local"
}
