pool "old" {
  module     = "../../modules/node"
  fill_level = 2
  max_nodes  = 4
  variables = { image = "x" }
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 2
  max_nodes  = 4
  variables = { image = "y" }
}
