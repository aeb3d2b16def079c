
pool "metal-centos9" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}

pool "virtual-centos9-aarch64" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
