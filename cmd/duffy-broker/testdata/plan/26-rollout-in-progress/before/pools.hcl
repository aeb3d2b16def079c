pool "a" {
  module     = "../../modules/node"
  fill_level = 3
  max_nodes  = 6
}
