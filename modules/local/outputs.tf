output "ipaddr" {
  description = "The node's loopback address."
  value       = local.recorded["address"]
}

output "hostname" {
  description = "The host name that the broker gave. Logins see it as DUFFY_NODE."
  value       = var.broker.hostname
}

output "ssh_user" {
  description = "The only user who can log in: the one who runs the broker."
  value       = local.recorded["user"]
}

output "ssh_port" {
  description = "The port of the SSH server."
  value       = try(tonumber(local.recorded["port"]), null)
}

output "ssh_host_keys" {
  description = "The node's host key, made with it."
  value       = compact([local.recorded["host_key.pub"]])
}

output "data" {
  description = "What tenants are told about the node."
  value       = { size = var.size }
}
