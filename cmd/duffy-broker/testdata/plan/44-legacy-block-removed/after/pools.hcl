
pool "metal-centos9" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
