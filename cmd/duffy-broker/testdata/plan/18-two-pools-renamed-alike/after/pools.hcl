pool "new-1" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}

pool "new-2" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
