terraform {
  required_providers {
    fakecloud = {
      source  = "fakecloud.test/duffy-broker/fakecloud"
      version = "1.0.0"
    }
  }
}

variable "broker" {
  type = object({ id = string })
}

variable "endpoint" {
  type = string
}

variable "request_timeout" {
  type    = string
  default = "30s"
}

provider "fakecloud" {
  endpoint        = var.endpoint
  request_timeout = var.request_timeout
}

data "fakecloud_instances" "all" {
  tags = { "duffy:broker-id" = var.broker.id }
}

output "nodes" {
  value = [for i in data.fakecloud_instances.all.instances : {
    node_id    = lookup(i.tags, "duffy:node-id", "")
    pool       = lookup(i.tags, "duffy:pool", "")
    ipaddr     = i.address
    created_at = i.created_at
    resources  = { "fakecloud_instance.node" = i.id }
  }]
}

output "complete" {
  value = data.fakecloud_instances.all.complete
}
