pool "a" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 3
  variables = { license = "very-secret-two" }
}
