# Stands for a module that makes a machine: see modules/ of duffy-broker for real
# ones, and modules/README.md there for what the broker asks of a module.

variable "broker" {
  type = object({
    id      = string
    node_id = string
    tags    = map(string)
  })
}

variable "release" {
  type = string
}

variable "arch" {
  type = string
}

resource "terraform_data" "node" {
  input = merge(var.broker.tags, { release = var.release, arch = var.arch })
}

output "ipaddr" {
  value = "127.0.0.1"
}

output "data" {
  value = { release = terraform_data.node.output.release, arch = terraform_data.node.output.arch }
}
