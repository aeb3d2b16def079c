locals {
  size = 1
}
pool "a" {
  module     = "../modules/local"
  variables  = local
}
