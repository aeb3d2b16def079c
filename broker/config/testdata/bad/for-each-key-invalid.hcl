pool "a" {
  for_each = { "small one" = 1, large = 2 }
  module   = "../modules/local"
}
