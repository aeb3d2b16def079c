output "ipaddr" {
  description = "The public address where public_ip is true, else the private one."
  value       = try(var.public_ip ? aws_instance.node.public_ip : aws_instance.node.private_ip, null)
}

output "hostname" {
  description = "The host name that the broker gave."
  value       = var.broker.hostname
}

output "ssh_user" {
  description = "The user who logs in."
  value       = var.ssh_user
}

output "ssh_port" {
  description = "The port of sshd."
  value       = var.ssh_port
}

output "ssh_host_keys" {
  description = "The host key that the broker made, so that the first connection is verified. null with a broker that makes none."
  value       = var.broker.ssh_host_key == null ? null : [var.broker.ssh_host_key.public_key]
}

output "data" {
  description = "What tenants are told about the node."
  value = {
    instance_id   = aws_instance.node.id
    instance_type = var.instance_type
    arch          = var.arch
    zone          = aws_instance.node.availability_zone
    image         = data.aws_ami.node.id
    image_name    = data.aws_ami.node.name
    market        = var.market
  }
}

output "image" {
  description = "The id of the image that was found: a pool may follow it."
  value       = data.aws_ami.node.id
}
