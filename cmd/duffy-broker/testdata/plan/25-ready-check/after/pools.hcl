pool "a" {
  module     = "../../modules/node"
  fill_level = 3
  max_nodes  = 6

  ready {
    command = "systemctl is-system-running"
    timeout = "10m"
  }
}

pool "b" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
  contextualize = "none"
}
