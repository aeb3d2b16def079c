pool "a" {
  module     = "../../modules/node"
  fill_level = 3
  max_nodes  = 6
  description = "Nodes <for> `everybody` | @all"
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
