pool "a" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 6
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 6
  tenants    = ["qa"]
}

pool "c" {
  module      = "../../modules/node"
  fill_level  = 1
  max_nodes   = 6
  tenants     = ["qa"]
  description = "before"
}
