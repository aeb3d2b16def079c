pool "a" {
  module = "example/vm/openstack"
}
