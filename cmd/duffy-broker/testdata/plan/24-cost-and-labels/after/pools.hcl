pool "a" {
  module     = "../../modules/node"
  fill_level = 4
  max_nodes  = 8
  hourly_cost = 0.5
  labels = { team = "release", tier = "gold" }
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
