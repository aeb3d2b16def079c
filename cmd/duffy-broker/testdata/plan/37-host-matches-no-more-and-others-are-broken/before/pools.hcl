inventory "rack1" {
  host "n1" {
    ipaddr     = "192.0.2.1"
    attributes = { arch = "x86_64" }
  }
  host "n2" {
    ipaddr     = "192.0.2.2"
    attributes = { arch = "x86_64" }
  }
  host "n3" {
    ipaddr     = "192.0.2.3"
    attributes = { arch = "x86_64" }
  }
  host "n4" {
    ipaddr     = "192.0.2.4"
    attributes = { arch = "x86_64" }
  }
}

pool "metal" {
  module        = "../../modules/node"
  fill_level    = 3
  max_nodes     = 5
  contextualize = "none"
  inventory     = { name = "rack1", where = { arch = "x86_64" } }
}
