pool "a" {
  module     = "../../modules/node"
  fill_level = 2
  max_nodes  = 4
  hourly_cost = 0.25
  labels = { team = "ci" }
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
