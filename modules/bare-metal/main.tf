# A machine of an inventory: claimed, installed or booted over the network, and in
# the end switched off.

locals {
  host       = var.broker.host
  attributes = try(local.host.attributes, {})
  hostname   = try(local.host.hostname, var.broker.hostname)
  arch       = try(local.attributes.arch, var.arch)
  disk       = try(local.attributes.disk, var.disk)
  claim      = try(local.attributes.claim, var.claim)

  # Where the broker serves the node's files.
  boot = try("${var.broker.url}/boot/${var.broker.token}", null)
}

# Here and not in the resources: a destroy, too, finds the controller where it is
# now.
provider "duffy" {
  bmc = try({
    address  = local.host.bmc.address
    kind     = local.host.bmc.kind
    insecure = var.bmc_insecure
    ca       = var.bmc_ca
  }, null)
}

# In the state before anything is done to the machine. Its destroy switches the
# machine off, also after a create that was killed.
resource "duffy_claim" "machine" {
  broker_id = var.broker.id
  node_id   = var.broker.node_id
  asset_tag = local.claim != "none"

  lifecycle {
    precondition {
      condition     = var.boot == "disk" || local.boot != null
      error_message = "The broker has no --node-url: machines could not fetch what they boot with. Start it with one, or set boot = \"disk\"."
    }
    precondition {
      condition     = var.wait_for != "call_home" || local.boot != null
      error_message = "The broker has no --node-url, so no machine could call home: start it with one, or set wait_for = \"ssh\"."
    }
    precondition {
      condition     = var.boot != "virtual_media" || var.boot_url != null
      error_message = "boot = \"virtual_media\" needs boot_url, the ISO image."
    }
    precondition {
      condition     = try(local.host.bmc.kind, null) != "ipmi" || contains(["pxe", "disk"], var.boot) && (var.wipe == null ? true : var.wipe.boot == "pxe")
      error_message = "The controller of the machine speaks IPMI, which can boot from \"pxe\" and \"disk\" only: change boot (or wipe.boot), or choose other machines of the inventory."
    }
    precondition {
      condition     = var.installer == "none" || var.boot == "disk" || var.kernel != null && length(var.initrd) > 0
      error_message = "An installer needs kernel and initrd, the URLs that iPXE loads; or set installer = \"none\", and files."
    }
    precondition {
      condition     = !contains(["kickstart", "preseed"], var.installer) || var.boot == "disk" || var.source_url != null
      error_message = "kickstart and preseed need source_url, where packages come from."
    }
    precondition {
      condition     = contains(["x86_64", "aarch64", "ppc64le"], local.arch)
      error_message = "The attribute arch of the host must be \"x86_64\", \"aarch64\" or \"ppc64le\"."
    }
    precondition {
      condition     = local.disk == null || can(regex("^/dev/[A-Za-z0-9/_.:+-]+$", local.disk))
      error_message = "The attribute disk of the host must be a path such as \"/dev/sda\"."
    }
    precondition {
      condition     = contains(["asset_tag", "none"], local.claim)
      error_message = "The attribute claim of the host must be \"asset_tag\" or \"none\"."
    }
  }
}

resource "duffy_machine" "node" {
  name      = try(local.host.name, "")
  claim     = duffy_claim.machine.tag
  directory = var.broker.directory

  boot = {
    source   = var.boot
    url      = var.boot_url == null ? null : replace(var.boot_url, "{boot}", coalesce(local.boot, "-"))
    firmware = var.firmware
  }
  files = local.files

  wait = {
    until   = var.wait_for
    timeout = var.boot_timeout
    address = try(local.host.ipaddr, null)
    port    = var.ssh_port
  }

  wipe = var.wipe == null ? null : {
    source   = var.wipe.boot
    url      = var.wipe.url
    firmware = var.wipe.firmware
    timeout  = var.wipe.timeout
  }
}
