locals {
  size = "three"
}
pool "a" {
  module     = "../modules/local"
  fill_level = local.size
}
