policy {
  forbid "large" {
    condition = new.fill_level > 3
  }
}
pool "a" {
  module = "../modules/local"
}
