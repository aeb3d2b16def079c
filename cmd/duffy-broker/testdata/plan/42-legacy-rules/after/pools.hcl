locals {
  prefix = "vm"
}

legacy {
  default_ver = "9"
  max_wait    = "2m"
  sunset      = "2027-06-30"
  deprecated  = "2027-01-31"
  map {
    ver  = "/^[89]$/"
    arch = "x86_64"
    pool = "metal-centos${ver}"
  }
  map {
    pool = "${local.prefix}-centos${ver}-${arch}"
  }
}

pool "metal-centos9" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
  legacy     = false
}

pool "virtual-centos9-aarch64" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
