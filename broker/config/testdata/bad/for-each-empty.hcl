pool "a" {
  for_each = {}
  module   = "../modules/local"
}
