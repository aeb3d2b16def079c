# Said where it stands, not where it is used.
locals {
  size = tonumber("three")
  more = local.size + 1
}
pool "a" {
  module     = "../modules/local"
  fill_level = local.more
  max_nodes  = local.size
}
