tenant_defaults {
  node_quota = 1
}

tenant_defaults {
  node_quota = 2
}

pool "a" {
  module = "../modules/local"
}
