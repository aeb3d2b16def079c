pool "a" {
  module     = "../../modules/node"
  fill_level = 4
  max_nodes  = 8
  variables = { image = "stream-9" }
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
