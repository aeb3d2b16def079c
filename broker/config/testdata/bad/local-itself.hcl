locals {
  a = "x${local.a}"
}
pool "a" {
  module = "../modules/local"
}
