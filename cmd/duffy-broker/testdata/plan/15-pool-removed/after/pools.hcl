pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
