pool "a" {
  module     = "../../modules/node"
  fill_level = 0
  max_nodes  = 6
  variables = { image = "y" }
}
