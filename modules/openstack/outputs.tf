locals {
  # IPv4 before IPv6: a port has them in any order.
  addresses = openstack_networking_port_v2.node.all_fixed_ips
  address   = try([for a in local.addresses : a if !strcontains(a, ":")][0], local.addresses[0], null)
}

output "ipaddr" {
  description = "The floating IP, or the port's address."
  value       = var.floating_ip_pool == null ? local.address : one(openstack_networking_floatingip_v2.node[*].address)
}

output "hostname" {
  description = "The host name that the broker gave."
  value       = var.broker.hostname
}

output "ssh_user" {
  description = "Who can log in with the broker's keys."
  value       = var.ssh_user
}

output "ssh_port" {
  description = "The port of the SSH server."
  value       = 22
}

output "ssh_host_keys" {
  description = "The host key that the broker made for the node."
  value       = var.broker.ssh_host_key == null ? null : [var.broker.ssh_host_key.public_key]
}

output "image" {
  description = "The id of the image: a pool may follow it."
  value       = local.image_id
}

output "data" {
  description = "What tenants are told about the node."
  value = {
    instance_id   = openstack_compute_instance_v2.node.id
    instance_type = try(coalesce(data.openstack_compute_flavor_v2.node.name, var.flavor_name), var.flavor_id)
    zone          = openstack_compute_instance_v2.node.availability_zone
    arch          = var.arch
    image         = local.image_id
    image_name    = local.image_name
    private_ip    = local.address
  }
}
