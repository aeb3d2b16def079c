# What exists of this broker's nodes. The tagging API knows the tags of everything in one
# listing, but goes on to name instances that are terminated, and may learn of new ones
# late; so it is EC2 that says which instances there are.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 4.9"
    }
  }
}

provider "aws" {
  region                 = var.region
  profile                = var.profile
  skip_region_validation = length(var.endpoints) > 0

  dynamic "assume_role" {
    for_each = var.assume_role[*]
    content {
      role_arn     = assume_role.value.role_arn
      external_id  = assume_role.value.external_id
      session_name = coalesce(assume_role.value.session_name, "duffy-broker")
    }
  }

  dynamic "endpoints" {
    for_each = length(var.endpoints) > 0 ? [var.endpoints] : []
    content {
      ec2                      = lookup(endpoints.value, "ec2", null)
      sts                      = lookup(endpoints.value, "sts", null)
      resourcegroupstaggingapi = lookup(endpoints.value, "resourcegroupstaggingapi", null)
    }
  }
}

variable "broker" {
  type = object({ id = string })
}

variable "region" {
  type    = string
  default = null
}

variable "profile" {
  type    = string
  default = null
}

variable "assume_role" {
  type = object({
    role_arn     = string
    external_id  = optional(string)
    session_name = optional(string)
  })
  default = null
}

variable "endpoints" {
  type    = map(string)
  default = {}
}

data "aws_instances" "there" {
  instance_state_names = ["pending", "running", "stopping", "stopped"]
  instance_tags        = { "duffy:broker-id" = var.broker.id }
}

data "aws_resourcegroupstaggingapi_resources" "all" {
  resource_type_filters = ["ec2:instance", "ec2:launch-template", "ec2:security-group"]

  tag_filter {
    key    = "duffy:broker-id"
    values = [var.broker.id]
  }
}

# Instances that the tagging API does not know yet, one by one.
data "aws_instance" "late" {
  for_each    = setsubtract(data.aws_instances.there.ids, [for r in local.listed : r.id if r.kind == "instance"])
  instance_id = each.key
}

locals {
  addresses = {
    instance        = "aws_instance.node"
    launch-template = "aws_launch_template.node"
    security-group  = "aws_security_group.node[0]"
  }

  # arn:aws:ec2:REGION:ACCOUNT:KIND/ID
  listed = [for r in data.aws_resourcegroupstaggingapi_resources.all.resource_tag_mapping_list : {
    kind = split("/", element(split(":", r.resource_arn), 5))[0]
    id   = split("/", r.resource_arn)[1]
    tags = r.tags
  }]

  all = concat(
    [for r in local.listed : r if r.kind != "instance" || contains(data.aws_instances.there.ids, r.id)],
    [for id, i in data.aws_instance.late : { kind = "instance", id = id, tags = i.tags }],
  )
}

output "nodes" {
  value = [for r in local.all : {
    node_id    = lookup(r.tags, "duffy:node-id", "")
    pool       = lookup(r.tags, "duffy:pool", "")
    ipaddr     = null
    created_at = null
    # A node whose instance is gone has vanished, whatever else is left of it.
    remains   = r.kind != "instance"
    resources = { (local.addresses[r.kind]) = r.id }
  }]
}

output "complete" {
  value = true # both listings read all pages, or fail
}
