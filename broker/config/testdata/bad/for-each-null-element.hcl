pool "a" {
  for_each = toset(["x", null])
  module   = "../modules/local"
}
