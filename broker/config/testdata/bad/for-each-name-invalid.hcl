pool "a" {
  for_each = { small = "small/x", large = "large" }
  name     = each.value
  module   = "../modules/local"
}
