pool "a" {
  module     = "../../modules/node"
  fill_level = 4
  max_nodes  = 12
  variables = { image = "y" }
}
