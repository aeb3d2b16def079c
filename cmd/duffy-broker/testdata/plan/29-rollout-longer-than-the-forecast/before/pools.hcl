pool "a" {
  module     = "../../modules/node"
  fill_level = 60
  max_nodes  = 61
  variables = { image = "x" }
}
