pool "a" {
  module      = "../modules/local"
  description = ["a", "b"]
}
