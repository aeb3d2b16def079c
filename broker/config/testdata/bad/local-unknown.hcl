locals {
  size = 1
  zone = "a"
}
pool "a" {
  module     = "../modules/local"
  fill_level = local.flavour
}
