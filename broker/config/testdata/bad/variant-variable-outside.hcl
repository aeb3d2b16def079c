pool "a" {
  module = "../modules/local"
  variant "spot" {
    zone = "a"
  }
}
