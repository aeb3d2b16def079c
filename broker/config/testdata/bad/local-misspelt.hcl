locals {
  sizes = { small = 1 }
}
pool "a" {
  module     = "../modules/local"
  fill_level = local.sizs.small
}
