pool "old-1" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}

pool "old-2" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
