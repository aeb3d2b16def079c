pool "old" {
  module     = "../../modules/node"
  fill_level = 2
  max_nodes  = 4
}
