pool "a" {
  for_each = { small = { os = "c9s" }, large = { os = "c9s" } }
  name     = "a-${each.value.os}"
  module   = "../modules/local"
}
