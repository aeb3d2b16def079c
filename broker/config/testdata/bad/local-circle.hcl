locals {
  a = local.b + 1
  b = length(local.c)
  c = [local.a]
  d = local.a
}
pool "a" {
  module     = "../modules/local"
  fill_level = local.d
}
