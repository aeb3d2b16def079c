# A node on EC2: an instance, and the launch template that it is made from. Everything
# is in the launch template, since only there interfaces and volumes get their tags in
# the same call that makes them, and since the provider knows spot instances of
# aws_instance from 5.0 on only.

locals {
  ec2_arch = { x86_64 = "x86_64", aarch64 = "arm64" }[var.arch]
  name     = "duffy-${var.broker.node_id}"
  tags     = merge(var.tags, { Name = var.broker.hostname }, var.broker.tags)
  spot     = var.market == "spot"
  own_sg   = length(var.security_group_ids) == 0

  # Machines without a hypervisor take their time: firmware, and a wipe at the end.
  metal    = data.aws_ec2_instance_type.node.bare_metal
  timeouts = local.metal ? { create = "40m", delete = "60m" } : { create = "10m", delete = "20m" }
}

data "aws_ami" "node" {
  most_recent = true
  # The provider will not look for an image of just anybody, not even by its id.
  owners = var.image_owner == null ? ["self", "amazon", "aws-marketplace"] : [var.image_owner]

  filter {
    name   = var.image_id == null ? "name" : "image-id"
    values = [coalesce(var.image_id, var.image_name, "-")]
  }

  dynamic "filter" {
    for_each = var.image_id == null ? { architecture = local.ec2_arch, state = "available" } : {}
    content {
      name   = filter.key
      values = [filter.value]
    }
  }

  lifecycle {
    precondition {
      condition     = (var.image_id == null) != (var.image_name == null)
      error_message = "Give either image_id, or image_owner and image_name."
    }
    precondition {
      condition     = var.image_name == null || var.image_owner != null
      error_message = "image_name needs image_owner: anybody may give an image any name."
    }
  }
}

data "aws_ec2_instance_type" "node" {
  instance_type = var.instance_type
}

data "aws_subnet" "node" {
  count = var.subnet_id == null ? 0 : 1
  id    = var.subnet_id
}

resource "aws_security_group" "node" {
  count       = local.own_sg ? 1 : 0
  name        = local.name
  description = "Node ${var.broker.node_id} of pool ${var.broker.pool}"
  vpc_id      = one(data.aws_subnet.node[*].vpc_id) # null: the default VPC
  tags        = local.tags

  ingress {
    description      = "SSH"
    protocol         = "tcp"
    from_port        = var.ssh_port
    to_port          = var.ssh_port
    cidr_blocks      = [for block in var.ssh_cidr_blocks : block if !strcontains(block, ":")]
    ipv6_cidr_blocks = [for block in var.ssh_cidr_blocks : block if strcontains(block, ":")]
  }

  egress {
    protocol         = "-1"
    from_port        = 0
    to_port          = 0
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }

  # What still uses it after a create that was cut short is found by the sweep, not by
  # waiting.
  timeouts {
    delete = "1m"
  }

  lifecycle {
    precondition {
      condition     = length(var.ssh_cidr_blocks) > 0
      error_message = "Nobody could reach the node: give security_group_ids, or ssh_cidr_blocks for a security group of its own."
    }
  }
}

resource "aws_launch_template" "node" {
  name                                 = local.name
  image_id                             = data.aws_ami.node.id
  instance_type                        = var.instance_type
  instance_initiated_shutdown_behavior = "terminate" # a stopped instance would still cost its volumes
  user_data                            = sensitive(base64encode(local.user_data))
  tags                                 = local.tags

  dynamic "block_device_mappings" {
    for_each = { for m in data.aws_ami.node.block_device_mappings : m.device_name => m if length(m.ebs) > 0 }
    iterator = disk
    content {
      device_name = disk.key
      ebs {
        # Images may say that a disk outlives its instance.
        delete_on_termination = true
        volume_size           = disk.key == local.root ? var.root_volume_size : local.sizes[disk.key] # an empty disk of the image has no other
        volume_type           = disk.key == local.root ? var.root_volume_type : null
        iops                  = disk.key == local.root ? var.root_volume_iops : null
        encrypted             = disk.key == local.root && var.root_volume_encrypted ? true : null
        kms_key_id            = disk.key == local.root ? var.root_volume_kms_key : null
      }
    }
  }

  network_interfaces {
    device_index                = 0
    delete_on_termination       = true
    subnet_id                   = var.subnet_id
    associate_public_ip_address = var.public_ip
    security_groups             = local.own_sg ? aws_security_group.node[*].id : var.security_group_ids
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required" # IMDSv2
    http_put_response_hop_limit = 1          # not for containers
  }

  dynamic "instance_market_options" {
    for_each = local.spot ? [1] : []
    content {
      market_type = "spot"
      spot_options {
        spot_instance_type             = "one-time"
        instance_interruption_behavior = "terminate"
        max_price                      = var.spot_max_price
      }
    }
  }

  dynamic "credit_specification" {
    for_each = var.cpu_credits[*]
    content {
      cpu_credits = credit_specification.value
    }
  }

  dynamic "tag_specifications" {
    for_each = concat(["instance", "volume", "network-interface"], local.spot ? ["spot-instances-request"] : [])
    content {
      resource_type = tag_specifications.value
      tags          = local.tags
    }
  }

  lifecycle {
    precondition {
      condition     = contains(data.aws_ec2_instance_type.node.supported_architectures, local.ec2_arch)
      error_message = "instance_type ${var.instance_type} is of ${join(", ", data.aws_ec2_instance_type.node.supported_architectures)}, and arch is ${var.arch}: change one of them."
    }
    precondition {
      condition     = data.aws_ami.node.architecture == local.ec2_arch
      error_message = "The image ${data.aws_ami.node.id} (${data.aws_ami.node.name}) is of ${data.aws_ami.node.architecture}, and arch is ${var.arch}: change one of them."
    }
    precondition {
      condition     = contains(data.aws_ec2_instance_type.node.supported_usages_classes, var.market)
      error_message = "There is no ${var.instance_type} in the market ${var.market}, only ${join(", ", data.aws_ec2_instance_type.node.supported_usages_classes)}."
    }
    precondition {
      condition     = coalesce(var.root_volume_size, local.image_size) >= local.image_size
      error_message = "root_volume_size is ${coalesce(var.root_volume_size, 0)} GiB, and the image ${data.aws_ami.node.id} needs ${local.image_size}."
    }
    precondition {
      condition     = contains(["io1", "io2"], var.root_volume_type) ? var.root_volume_iops != null : var.root_volume_type == "gp3" || var.root_volume_iops == null
      error_message = "root_volume_iops must be given for the types io1 and io2, may be given for gp3, and must not be for others."
    }
    precondition {
      condition     = var.root_volume_type != "gp3" || coalesce(var.root_volume_iops, 3000) >= 3000
      error_message = "root_volume_iops is ${coalesce(var.root_volume_iops, 0)}, and gp3 has 3000 or more: leave it out."
    }
    precondition {
      condition     = var.root_volume_kms_key == null || var.root_volume_encrypted
      error_message = "root_volume_kms_key is given, and root_volume_encrypted is false: change one of them."
    }
    precondition {
      condition     = var.spot_max_price == null || local.spot
      error_message = "spot_max_price is given, and market is \"on-demand\"."
    }
    precondition {
      condition     = var.cpu_credits == null || data.aws_ec2_instance_type.node.burstable_performance_supported
      error_message = "cpu_credits is given, and ${var.instance_type} has no CPU credits."
    }
    precondition {
      condition     = var.subnet_id == null || var.availability_zone == null || var.availability_zone == one(data.aws_subnet.node[*].availability_zone)
      error_message = "subnet_id lies in the zone ${coalesce(one(data.aws_subnet.node[*].availability_zone), "-")}, and availability_zone says otherwise: leave it out."
    }
    precondition {
      condition     = var.subnet_id == null || try(length(one(data.aws_subnet.node[*].cidr_block)) > 0, false)
      error_message = "subnet_id has no IPv4 addresses, and nodes are reached by one: take another subnet."
    }
    precondition {
      condition     = local.user_data_size <= 16384
      error_message = "The user data has ${local.user_data_size} bytes with the module's own, and EC2 takes 16384: let user_data fetch what is large."
    }
  }
}

locals {
  # Some images name their root device otherwise than the disk: the first one is meant.
  root       = contains(keys(local.sizes), data.aws_ami.node.root_device_name) ? data.aws_ami.node.root_device_name : try([for m in data.aws_ami.node.block_device_mappings : m.device_name if length(m.ebs) > 0][0], "-")
  sizes      = { for m in data.aws_ami.node.block_device_mappings : m.device_name => tonumber(lookup(m.ebs, "volume_size", 0)) if length(m.ebs) > 0 }
  image_size = lookup(local.sizes, local.root, 0)
}

resource "aws_instance" "node" {
  availability_zone    = var.subnet_id == null ? var.availability_zone : null
  iam_instance_profile = var.instance_profile

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  timeouts {
    create = local.timeouts.create
    delete = local.timeouts.delete
  }

  lifecycle {
    # The launch template sets them. Of the user data the provider keeps a hash, which
    # some of its versions hash once more at the next plan.
    ignore_changes = [tags, user_data]
  }
}
