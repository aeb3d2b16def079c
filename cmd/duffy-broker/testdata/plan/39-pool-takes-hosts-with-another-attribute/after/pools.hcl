inventory "rack1" {
  host "n1" {
    ipaddr     = "192.0.2.1"
    attributes = { arch = "x86_64" }
  }
  host "n2" {
    ipaddr     = "192.0.2.2"
    attributes = { arch = "x86_64" }
  }
  host "a1" {
    ipaddr     = "192.0.2.11"
    attributes = { arch = "aarch64" }
  }
  host "a2" {
    ipaddr     = "192.0.2.12"
    attributes = { arch = "aarch64" }
  }
}

pool "metal" {
  module        = "../../modules/node"
  fill_level    = 2
  max_nodes     = 4
  contextualize = "none"
  inventory     = { name = "rack1", where = { arch = "aarch64" } }
}
