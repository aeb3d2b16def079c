pool "a" {
  for_each = null
  module   = "../modules/local"
}
