pool "a" {
  module = "example/vm/openstack?version=~>1.2"
}
