output "ipaddr" {
  description = "Where the node is reached from the broker's machine."
  value = (
    var.network_mode == "user" ? local.forward_address :
    local.address_from == "name" ? local.hostname :
    # An IPv4 address, if it has one.
    try([for a in libvirt_domain.node.network_interface[0].addresses : a if can(cidrhost("${a}/32", 0))][0], libvirt_domain.node.network_interface[0].addresses[0], null)
  )
}

output "hostname" {
  description = "The node's host name."
  value       = local.hostname
}

output "ssh_user" {
  description = "The user that the broker and tenants log in as."
  value       = var.ssh_user
}

output "ssh_port" {
  description = "The port of the SSH server, as seen from the broker's machine."
  value       = var.network_mode == "user" ? local.forward_port : 22
}

output "ssh_host_keys" {
  description = "The host key that the broker made for the node, if it did."
  value       = var.broker.ssh_host_key == null ? null : [var.broker.ssh_host_key.public_key]
}

output "image" {
  description = "What the node was made of: the base volume or the kernel."
  value       = local.has_base ? local.base_volume : var.kernel
}

output "data" {
  description = "What tenants are told about the node."
  value = {
    arch        = var.arch
    machine     = local.machine
    accelerator = local.kvm ? "kvm" : "tcg"
    vcpus       = var.vcpus
    memory      = var.memory
    image       = local.has_base ? local.base_volume : basename(coalesce(var.kernel, "/"))
  }
}
