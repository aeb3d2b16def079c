# What exists of this broker's pool. The provider lists ports, so this finds a server
# by the port that it is plugged into, and a security group by the port that it is
# put on: see "What the sweep sees" in the module's README.

terraform {
  required_version = ">= 1.5"

  required_providers {
    openstack = {
      source  = "terraform-provider-openstack/openstack"
      version = ">= 1.54.1"
    }
  }
}

variable "broker" {
  type = object({
    id   = string
    pool = string
  })
}

variable "cloud" {
  type    = string
  default = null
}

variable "region" {
  type    = string
  default = null
}

variable "security_groups" {
  type    = list(string)
  default = []
}

variable "port_security" {
  type    = bool
  default = true
}

provider "openstack" {
  cloud  = var.cloud
  region = var.region
}

data "openstack_networking_port_ids_v2" "all" {
  description = "duffy:broker-id=${var.broker.id} duffy:pool=${var.broker.pool}"
}

# One that goes between the listing and this fails the sweep, from which nothing
# follows then.
data "openstack_networking_port_v2" "node" {
  for_each = toset(data.openstack_networking_port_ids_v2.all.ids)
  port_id  = each.key
}

locals {
  own_groups = var.port_security && length(var.security_groups) == 0
}

data "openstack_networking_secgroup_v2" "node" {
  for_each    = toset(local.own_groups ? flatten([for p in data.openstack_networking_port_v2.node : tolist(p.all_security_group_ids)]) : [])
  secgroup_id = each.key
}

output "nodes" {
  value = [for id, port in data.openstack_networking_port_v2.node : {
    node_id    = try(regex("[0-9a-f]{16}$", port.name), "")
    pool       = var.broker.pool
    ipaddr     = try(tolist(port.all_fixed_ips)[0], "")
    created_at = null
    resources = merge(
      { "openstack_networking_port_v2.node" = id },
      startswith(coalesce(port.device_owner, "-"), "compute:") ? { "openstack_compute_instance_v2.node" = port.device_id } : {},
      {
        for group in port.all_security_group_ids : "openstack_networking_secgroup_v2.node[0]" => group
        if try(data.openstack_networking_secgroup_v2.node[group].name, "") == port.name
      },
    )
  }]
}

output "complete" {
  value = true # the listing reads all pages
}
