pool "a" {
  name   = "b"
  module = "../modules/local"
}
