pool "a" {
  for_each = ["x", "y"]
  module   = "../modules/local"
}
