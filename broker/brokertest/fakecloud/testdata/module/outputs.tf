output "ipaddr" {
  value = fakecloud_instance.node.address
}

output "ssh_port" {
  value = fakecloud_instance.node.ssh_port
}
