policy {
  deny "large" {
    condition = new.fil_level > 3
  }
}
pool "a" {
  module = "../modules/local"
}
