output "ipaddr" {
  description = "The machine's address, from the inventory."
  value       = try(local.host.ipaddr, null)
  # Not before it was booted.
  depends_on = [duffy_machine.node]
}

output "hostname" {
  description = "The machine's host name, from the inventory."
  value       = local.hostname
}

output "ssh_user" {
  description = "The user that the broker and tenants log in as."
  value       = var.ssh_user
}

output "ssh_port" {
  description = "The port of the SSH server."
  value       = var.ssh_port
}

output "ssh_host_keys" {
  description = "The host key that the broker made for the node and the installer has put on it, or what the machine has told of its keys."
  value = (
    var.boot != "disk" && var.installer != "none" && var.broker.ssh_host_key != null ? [var.broker.ssh_host_key.public_key] :
    length(duffy_machine.node.ssh_host_keys) > 0 ? duffy_machine.node.ssh_host_keys : null
  )
}

output "image" {
  description = "What the machine was booted with."
  value       = coalesce(var.kernel, var.boot_url, var.boot)
}

output "data" {
  description = "What tenants are told about the node."
  value = {
    host       = try(local.host.name, null)
    arch       = local.arch
    attributes = local.attributes
    image      = coalesce(var.kernel, var.boot_url, var.boot)
  }
}
