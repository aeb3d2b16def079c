tenant_defaults {
  node_quota = 20
}

pool "a" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 30
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 6
  tenants    = []
}

# Its tenant has a quota of its own, so nothing changes there.
pool "c" {
  module      = "../../modules/node"
  fill_level  = 1
  max_nodes   = 6
  tenants     = ["qa"]
  description = "after"
}

pool "d" {
  module     = "../../modules/node"
  fill_level = 0
  max_nodes  = 4
  tenants    = ["qa", "nobody"]
}
