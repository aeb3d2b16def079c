pool "a" {
  for_each = toset([8, 9])
  module   = "../modules/local"
}
