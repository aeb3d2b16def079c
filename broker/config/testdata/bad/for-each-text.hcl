pool "a" {
  for_each = "x"
  module   = "../modules/local"
}
