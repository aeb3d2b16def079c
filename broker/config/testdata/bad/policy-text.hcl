policy {
  deny "large" {
    condition = true
    message   = ["a"]
  }
}
pool "a" {
  module = "../modules/local"
}
