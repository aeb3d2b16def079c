pool "a" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 3
  variables = { size = "large" }
}
