# A virtual machine on a libvirt hypervisor: a copy-on-write disk over a base volume,
# or a kernel of one's own; cloud-init by a NoCloud volume.

provider "libvirt" {
  uri = var.uri
}

locals {
  name     = "duffy-${var.broker.node_id}"
  tags     = merge(var.tags, var.broker.tags)
  hostname = var.network_domain == null ? var.broker.hostname : "${var.broker.hostname}.${var.network_domain}"

  # For qemu+ssh virsh runs ssh, which takes no file of known hosts from the URI; for
  # qemu+libssh it takes one, under another name than the provider's.
  knows_hosts = can(regex("^qemu[+]ssh:.*[?&]knownhosts=", var.uri))
  libssh_uri  = replace(replace(var.uri, "qemu+ssh:", "qemu+libssh:"), "/([?&])knownhosts=/", "$${1}known_hosts=")
  virsh_uri   = coalesce(var.virsh_uri, local.knows_hosts ? local.libssh_uri : var.uri)

  # An uploaded base volume is named by its content, and by the broker: several
  # brokers on a hypervisor don't wait for each other, nor believe in half an upload.
  uploads     = var.image_url != null
  base_volume = local.uploads ? "duffy-base-${substr(coalesce(var.image_sha256, "none"), 0, 24)}-${substr(sha256(var.broker.id), 0, 8)}" : var.base_volume
  base_pool   = local.uploads ? var.storage_pool : coalesce(var.base_volume_pool, var.storage_pool)
  has_base    = local.uploads || var.base_volume != null
  has_disk    = local.has_base || var.disk_size != null

  machine = coalesce(var.machine, { x86_64 = "q35", aarch64 = "virt", ppc64le = "pseries" }[var.arch])
  # i440FX, the PC of 1996, is the only machine with an IDE bus.
  scsi = !(var.arch == "x86_64" && can(regex("^pc($|-i440fx|-[0-9])", local.machine)))

  # What the hypervisor said when the node was begun. After a destroy the file is gone.
  kvm      = var.accelerator == "auto" ? try(trimspace(file("${terraform_data.claim.output.directory}/accelerator")), "tcg") == "kvm" : var.accelerator == "kvm"
  cpu_mode = var.cpu_mode != null ? var.cpu_mode : local.kvm ? "host-passthrough" : var.arch == "ppc64le" ? null : "maximum"

  address_from = coalesce(var.network_address, { network = "lease", bridge = "agent", user = "name" }[var.network_mode])
  # Two nodes meet on an address or a port only by chance; then the second one does
  # not start, and the broker makes another, with another id and so another place.
  place           = parseint(substr(sha256(var.broker.node_id), 0, 10), 16)
  forward_address = coalesce(var.network_forward_address, cidrhost("127.64.0.0/10", 1 + local.place % 4194302))
  forward_port    = var.network_forward_ports.first + (var.network_forward_address == null ? 0 : local.place % (1 + var.network_forward_ports.last - var.network_forward_ports.first))
}

# The claim on the node's names. It comes into the state before anything is made, and
# its destroy removes all that has these names, whether the state knows it or not: the
# provider forgets a domain that does not start, and all forget what is being made
# when Terraform is killed.
resource "terraform_data" "claim" {
  input = {
    uri       = local.virsh_uri
    name      = local.name
    pool      = var.storage_pool
    directory = var.broker.directory
  }

  lifecycle {
    precondition {
      condition     = var.kernel != null || local.has_base
      error_message = "The node has nothing to boot: set base_volume, or image_url and image_sha256, or kernel."
    }
    precondition {
      condition     = var.base_volume == null || var.image_url == null
      error_message = "base_volume and image_url are both set: a node has one base volume."
    }
    precondition {
      condition     = (var.image_url == null) == (var.image_sha256 == null)
      error_message = "image_url and image_sha256 belong together: set both or none."
    }
    precondition {
      condition     = var.kernel != null || (var.initrd == null && var.cmdline == null)
      error_message = "initrd and cmdline need a kernel."
    }
    precondition {
      condition     = var.network_mode != "bridge" || var.network_bridge != null
      error_message = "network_mode = \"bridge\" needs network_bridge."
    }
    precondition {
      condition     = var.network_mode == "user" || local.address_from != "name" || var.network_domain != null
      error_message = "network_address = \"name\" needs network_domain."
    }
    precondition {
      condition     = var.network_mode == "network" || var.network_address != "lease"
      error_message = "network_address = \"lease\" needs network_mode = \"network\": only libvirt's own networks have leases."
    }
    precondition {
      condition     = var.firmware == "bios" || var.arch == "x86_64"
      error_message = "firmware = \"uefi\" is for x86_64: the other architectures have one firmware each."
    }
    precondition {
      condition     = !var.vof || (var.arch == "ppc64le" && var.kernel != null)
      error_message = "vof = true needs arch = \"ppc64le\" and a kernel."
    }
  }

  # Looks before anything is made whether the hypervisor has what the node needs.
  provisioner "local-exec" {
    command = "sh \"$NODE_MODULE/node.sh\" check"
    environment = {
      NODE_MODULE      = path.module
      NODE_URI         = self.input.uri
      NODE_NAME        = self.input.name
      NODE_POOL        = self.input.pool
      NODE_DIRECTORY   = self.input.directory
      NODE_ARCH        = var.arch
      NODE_ACCELERATOR = var.accelerator
      NODE_BASE        = local.uploads || var.base_volume == null ? "" : var.base_volume
      NODE_BASE_POOL   = local.base_pool
      NODE_NETWORK     = var.network_mode == "network" ? var.network_name : ""
    }
  }

  provisioner "local-exec" {
    when    = destroy
    command = "sh \"$NODE_MODULE/node.sh\" remove"
    environment = {
      NODE_MODULE    = path.module
      NODE_URI       = self.input.uri
      NODE_NAME      = self.input.name
      NODE_POOL      = self.input.pool
      NODE_DIRECTORY = self.input.directory
    }
  }
}

# The base volume belongs to no node: a resource of the provider would be removed with
# the node that made it, from under the others.
resource "terraform_data" "base" {
  count      = local.uploads ? 1 : 0
  input      = { volume = local.base_volume }
  depends_on = [terraform_data.claim]

  provisioner "local-exec" {
    command = "sh \"$NODE_MODULE/node.sh\" base"
    environment = {
      NODE_MODULE = path.module
      NODE_URI    = local.virsh_uri
      NODE_POOL   = var.storage_pool
      NODE_BASE   = self.input.volume
      NODE_IMAGE  = var.image_url
      NODE_SHA256 = var.image_sha256
    }
  }
}

resource "libvirt_volume" "disk" {
  count            = local.has_disk ? 1 : 0
  name             = "${local.name}.qcow2"
  pool             = var.storage_pool
  format           = "qcow2"
  base_volume_name = local.base_volume
  base_volume_pool = local.has_base ? local.base_pool : null
  size             = var.disk_size == null ? null : var.disk_size * 1024 * 1024 * 1024
  depends_on       = [terraform_data.claim, terraform_data.base]
}

resource "libvirt_cloudinit_disk" "seed" {
  name       = "${local.name}-seed.iso"
  pool       = var.storage_pool
  user_data  = local.user_data
  meta_data  = "instance-id: ${local.name}\nlocal-hostname: ${local.hostname}\n"
  depends_on = [terraform_data.claim, terraform_data.base]
}

resource "libvirt_domain" "node" {
  name        = local.name
  description = "Node ${var.broker.node_id} of pool ${var.broker.pool}, made by duffy-broker ${var.broker.id}."
  type        = local.kvm ? "kvm" : "qemu"
  arch        = var.arch
  machine     = local.machine
  memory      = var.memory
  vcpu        = var.vcpus
  kernel      = var.kernel
  initrd      = var.initrd
  cloudinit   = libvirt_cloudinit_disk.seed.id
  qemu_agent  = local.address_from == "agent"

  dynamic "cpu" {
    for_each = local.cpu_mode == null ? [] : [local.cpu_mode]
    content {
      mode = cpu.value
    }
  }

  dynamic "disk" {
    for_each = libvirt_volume.disk
    content {
      volume_id = disk.value.id
    }
  }

  dynamic "network_interface" {
    for_each = var.network_mode == "user" ? [] : [1]
    content {
      network_name   = var.network_mode == "network" ? var.network_name : null
      bridge         = var.network_mode == "bridge" ? var.network_bridge : null
      wait_for_lease = local.address_from != "name"
    }
  }

  console {
    type        = "pty"
    target_port = "0"
    target_type = "serial"
  }

  xml {
    xslt = templatefile("${path.module}/domain.xsl.tftpl", {
      arch            = var.arch
      scsi            = local.scsi
      uefi            = var.firmware == "uefi"
      vof             = var.vof && !local.kvm
      cmdline         = var.cmdline == null ? "" : replace(replace(replace(var.cmdline, "&", "&amp;"), "<", "&lt;"), ">", "&gt;")
      tags            = { for k, v in local.tags : replace(replace(k, "&", "&amp;"), "<", "&lt;") => replace(replace(v, "&", "&amp;"), "<", "&lt;") }
      user_network    = var.network_mode == "user"
      isolated        = var.network_isolated
      forward_address = local.forward_address
      forward_port    = local.forward_port
    })
  }

  # For the address. The provider gives up after 5 minutes, in which an emulated machine
  # has not booted; the pool's create_timeout ends it before, if it is shorter.
  timeouts {
    create = "30m"
  }

  lifecycle {
    # The stylesheet writes it: the provider would lose its order, and see a change
    # in what it reads.
    ignore_changes = [cmdline]
  }
}
