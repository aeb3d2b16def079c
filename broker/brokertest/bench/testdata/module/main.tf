# Nothing in the provider's configuration depends on the node, so that runs of
# different nodes can share a provider.
terraform {
  required_providers {
    fakecloud = {
      source  = "fakecloud.test/duffy-broker/fakecloud"
      version = "1.0.0"
    }
  }
}

variable "broker" {
  type = object({
    hostname = string
    tags     = map(string)
  })
}

variable "endpoint" {
  type = string
}

variable "boot_timeout" {
  type    = string
  default = "10m"
}

variable "request_timeout" {
  type    = string
  default = "30s"
}

provider "fakecloud" {
  endpoint        = var.endpoint
  boot_timeout    = var.boot_timeout
  request_timeout = var.request_timeout
}

resource "fakecloud_instance" "node" {
  name = var.broker.hostname
  tags = var.broker.tags
}

output "ipaddr" {
  value = fakecloud_instance.node.address
}
