pool "a" {
  for_each = local.systems
  module   = "../modules/local"
  description = each.value.text
}
