locals {
  sizes = { small = 1, large = null }
}

pool "set" {
  for_each  = toset(["b", "a"])
  module    = "./modules/local"
  variables = { value = each.value }
}

pool "map" {
  for_each   = tomap(local.sizes)
  module     = "./modules/local"
  fill_level = each.value
}

# The name may be that of a block, as long as no pool has it.
pool "map" {
  for_each = { x = { base = "first" }, y = { base = "second" } }
  extends  = each.value.base
}

pool "none" {
  for_each = {}
  module   = "./modules/local"
  description = each.value.text
}

pool "one" {
  for_each = { only = "./modules/cloud" }
  name     = each.key
  module   = each.value
}

template "first" {
  module = "./modules/local"
}

template "second" {
  module      = "./modules/cloud"
  description = "cloud"
}
