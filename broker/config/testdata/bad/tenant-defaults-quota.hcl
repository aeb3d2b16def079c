tenant_defaults {
  node_quota = -1
}

pool "a" {
  module = "../modules/local"
}
