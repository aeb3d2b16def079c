locals {
  size = 1
}
locals {
  size = 2
}
pool "a" {
  module     = "../modules/local"
  fill_level = local.size
}
