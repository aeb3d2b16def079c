# A server in an OpenStack cloud with a port of its own.
#
# The port comes first and says in its description whose it is, which Neutron
# stores in the request that makes it. It leads the sweep to the server that is
# plugged into it: this provider lists ports, and no servers.

locals {
  name  = strcontains(var.broker.hostname, var.broker.node_id) ? var.broker.hostname : "duffy-${var.broker.node_id}"
  owner = "duffy:broker-id=${var.broker.id} duffy:pool=${var.broker.pool}" # as sweep/ has it

  tags = merge(var.tags, var.broker.tags)
  # Tags of OpenStack are words of 60 characters, which Nova wants without "/" and
  # nobody with ",". What does not fit stands in the server's metadata alone.
  labels = [for k, v in local.tags : "${k}=${v}" if length("${k}=${v}") <= 60 && !can(regex("[/,]", "${k}=${v}"))]

  own_group = var.port_security && length(var.security_groups) == 0
  is_id     = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
}

# All that a pool names is looked up before anything is made.

data "openstack_images_image_v2" "node" {
  count = var.image_id == null ? 1 : 0

  name        = var.image_name
  name_regex  = var.image_name_regex
  properties  = length(var.image_properties) > 0 ? var.image_properties : null
  owner       = var.image_owner
  most_recent = true

  lifecycle {
    precondition {
      condition     = var.image_name != null || var.image_name_regex != null || length(var.image_properties) > 0
      error_message = "No image is named: set image_id, image_name, image_name_regex or image_properties."
    }
    precondition {
      condition     = var.image_name == null || var.image_name_regex == null
      error_message = "image_name and image_name_regex exclude each other."
    }
    # Where one image alone has the name the provider does not compare properties.
    postcondition {
      condition     = alltrue([for k, v in var.image_properties : try(self.properties[k], "") == v])
      error_message = "The image ${self.name} (${self.id}) does not have the image_properties that were asked for: it has ${jsonencode(self.properties)}."
    }
    postcondition {
      condition     = contains([var.arch, ""], try(self.properties["hw_architecture"], self.properties["architecture"], ""))
      error_message = "The image ${self.name} (${self.id}) has the architecture ${try(self.properties["hw_architecture"], self.properties["architecture"], "")}, and the pool is for ${var.arch}: choose another image, or set arch."
    }
    postcondition {
      condition     = var.arch != "ppc64le" || startswith(try(self.properties["hw_machine_type"], "pseries"), "pseries")
      error_message = "The image ${self.name} (${self.id}) has hw_machine_type=${try(self.properties["hw_machine_type"], "")}, with which ppc64le does not boot: openstack image set --property hw_machine_type=pseries ${self.id}"
    }
    postcondition {
      condition     = var.arch != "ppc64le" || try(self.properties["hw_cdrom_bus"], "scsi") == "scsi"
      error_message = "The image ${self.name} (${self.id}) has hw_cdrom_bus=${try(self.properties["hw_cdrom_bus"], "")}: a pseries machine has no such bus for its config drive: openstack image set --property hw_cdrom_bus=scsi ${self.id}"
    }
    postcondition {
      condition     = var.arch != "ppc64le" || contains(["none", "vga", "virtio"], try(self.properties["hw_video_model"], "none"))
      error_message = "The image ${self.name} (${self.id}) has hw_video_model=${try(self.properties["hw_video_model"], "")}, which a pseries machine can't have: openstack image set --property hw_video_model=none ${self.id}"
    }
  }
}

# On a cloud with hypervisors of several architectures, or with emulation, an image
# must say all of this. On one of POWER alone Nova knows it by itself, so that this
# is a warning.
check "ppc64le_image" {
  assert {
    condition = var.arch != "ppc64le" || var.image_id != null || alltrue([
      for k, v in { hw_architecture = "ppc64le", hw_machine_type = "pseries", hw_cdrom_bus = "scsi", hw_video_model = "none" } :
      try(data.openstack_images_image_v2.node[0].properties[k], null) != null
    ])
    error_message = "The image ${try(data.openstack_images_image_v2.node[0].name, "")} does not say all that ppc64le needs where hypervisors of other architectures exist: openstack image set --property hw_architecture=ppc64le --property hw_machine_type=pseries --property hw_cdrom_bus=scsi --property hw_video_model=none ${try(data.openstack_images_image_v2.node[0].id, "")}"
  }
}

data "openstack_compute_flavor_v2" "node" {
  name      = var.flavor_name
  flavor_id = var.flavor_id

  lifecycle {
    precondition {
      condition     = (var.flavor_name == null) != (var.flavor_id == null)
      error_message = "Name the flavor by flavor_name or by flavor_id: one of them."
    }
  }
}

data "openstack_networking_network_v2" "node" {
  name       = var.network_name
  network_id = var.network_id

  lifecycle {
    precondition {
      condition     = (var.network_name == null) != (var.network_id == null)
      error_message = "Name the network by network_name or by network_id: one of them."
    }
  }
}

data "openstack_networking_subnet_v2" "node" {
  count      = var.subnet_id == null ? 0 : 1
  subnet_id  = var.subnet_id
  network_id = data.openstack_networking_network_v2.node.id
}

data "openstack_networking_network_v2" "floating" {
  count    = var.floating_ip_pool == null ? 0 : 1
  name     = var.floating_ip_pool
  external = true
}

data "openstack_networking_secgroup_v2" "node" {
  for_each = toset(var.port_security ? var.security_groups : [])

  name        = can(regex(local.is_id, each.key)) ? null : each.key
  secgroup_id = can(regex(local.is_id, each.key)) ? each.key : null
}

locals {
  image_id   = coalesce(var.image_id, one(data.openstack_images_image_v2.node[*].id))
  image_name = one(data.openstack_images_image_v2.node[*].name)
}

resource "openstack_networking_secgroup_v2" "node" {
  count = local.own_group ? 1 : 0

  name        = local.name
  description = local.owner
  tags        = local.labels
}

resource "openstack_networking_secgroup_rule_v2" "node" {
  for_each = local.own_group ? { for i, r in var.ingress : i => r } : {}

  security_group_id = openstack_networking_secgroup_v2.node[0].id
  direction         = "ingress"
  ethertype         = strcontains(each.value.cidr, ":") ? "IPv6" : "IPv4"
  protocol          = each.value.protocol
  port_range_min    = each.value.port_min
  port_range_max    = each.value.port_max
  remote_ip_prefix  = each.value.cidr
}

resource "openstack_networking_port_v2" "node" {
  name                  = local.name
  description           = local.owner
  network_id            = data.openstack_networking_network_v2.node.id
  admin_state_up        = true
  port_security_enabled = var.port_security ? null : false
  no_security_groups    = var.port_security ? null : true
  security_group_ids = var.port_security ? concat(
    openstack_networking_secgroup_v2.node[*].id,
    [for g in data.openstack_networking_secgroup_v2.node : g.id],
  ) : null
  tags = local.labels

  dynamic "fixed_ip" {
    for_each = data.openstack_networking_subnet_v2.node[*].id
    content {
      subnet_id = fixed_ip.value
    }
  }
}

resource "openstack_compute_instance_v2" "node" {
  name              = local.name
  flavor_id         = data.openstack_compute_flavor_v2.node.id
  image_id          = var.root_volume == null ? local.image_id : null
  availability_zone = var.availability_zone
  config_drive      = var.config_drive
  user_data         = sensitive(local.user_data)
  metadata          = local.tags
  tags              = local.labels

  network {
    port = openstack_networking_port_v2.node.id
  }

  dynamic "block_device" {
    for_each = var.root_volume[*]
    content {
      uuid                  = local.image_id
      source_type           = "image"
      destination_type      = "volume"
      boot_index            = 0
      volume_size           = block_device.value.size
      volume_type           = block_device.value.type
      delete_on_termination = true
    }
  }

  dynamic "scheduler_hints" {
    for_each = var.server_group_id[*]
    content {
      group = scheduler_hints.value
    }
  }

  lifecycle {
    # A newer image is for the next node.
    ignore_changes = [image_id, block_device]

    precondition {
      condition     = length(base64encode(local.user_data)) <= 65535
      error_message = "The user data has ${length(base64encode(local.user_data))} bytes in base64, and Nova takes 65535: make user_data shorter, or let it fetch the rest."
    }
    precondition {
      condition     = var.root_volume != null || try(data.openstack_compute_flavor_v2.node.disk > 0, true)
      error_message = "The flavor ${coalesce(var.flavor_name, var.flavor_id, "?")} has no disk: set root_volume, or take another flavor."
    }
    precondition {
      condition     = try(data.openstack_compute_flavor_v2.node.ram >= data.openstack_images_image_v2.node[0].min_ram_mb, true)
      error_message = "The image asks for more memory than the flavor ${coalesce(var.flavor_name, var.flavor_id, "?")} has: choose a larger one."
    }
    precondition {
      condition     = try(coalesce(try(var.root_volume.size, null), data.openstack_compute_flavor_v2.node.disk) >= data.openstack_images_image_v2.node[0].min_disk_gb, true)
      error_message = "The image asks for a larger disk than the flavor or root_volume has."
    }
  }
}

# Last, since an address is paid for, and the provider lists none: while the server
# is being made, which takes longest, there is nothing to lose yet.
resource "openstack_networking_floatingip_v2" "node" {
  count = var.floating_ip_pool == null ? 0 : 1

  pool        = var.floating_ip_pool
  port_id     = openstack_networking_port_v2.node.id
  description = "${local.owner} duffy:node-id=${var.broker.node_id}"
  tags        = local.labels

  depends_on = [openstack_compute_instance_v2.node, data.openstack_networking_network_v2.floating]
}
