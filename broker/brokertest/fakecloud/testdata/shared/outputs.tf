output "ipaddr" {
  value = "192.0.2.1"
}

output "instances" {
  value = fakecloud_instance.node[*].id
}
