policy {
  deny "large" {
    condition = pool.fill_level > 3
  }
}
pool "a" {
  module = "../modules/local"
}
