pool "a" {
  module      = "../../modules/node"
  fill_level  = 2
  max_nodes   = 8
  hourly_cost = 0.5
}
