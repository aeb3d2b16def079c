# What the broker serves to the machine while it boots.

locals {
  # In the order of the kernel's command line.
  installer_args = {
    "kickstart"  = ["ip=dhcp", "inst.text", "inst.repo=${coalesce(var.source_url, "-")}", "inst.ks=${coalesce(local.boot, "-")}/kickstart.cfg"]
    "preseed"    = ["auto=true", "priority=critical", "interface=auto", "hostname=${split(".", local.hostname)[0]}", "url=${coalesce(local.boot, "-")}/preseed.cfg"]
    "cloud-init" = ["ip=dhcp", "ds=nocloud-net;s=${coalesce(local.boot, "-")}/cloud-init/"]
    "none"       = []
  }

  facts = {
    hostname   = local.hostname
    keys       = var.broker.ssh_public_keys
    host_key   = var.broker.ssh_host_key
    user       = var.ssh_user
    home       = var.ssh_user == "root" ? "/root" : "/home/${var.ssh_user}"
    port       = var.ssh_port
    call_home  = local.boot == null ? null : "${local.boot}/done"
    boot       = coalesce(local.boot, "-")
    source_url = coalesce(var.source_url, "http://-/")
    suite      = var.suite
    disk       = local.disk
    packages   = var.packages
    args       = [for arg in var.kernel_args : arg if !strcontains(arg, "{boot}")]
    extra      = var.installer_extra
  }

  ipxe = {
    "boot.ipxe" = templatefile("${path.module}/templates/boot.ipxe.tftpl", {
      kernel = coalesce(var.kernel, "-")
      initrd = var.initrd
      args   = concat(local.installer_args[var.installer], [for arg in var.kernel_args : replace(arg, "{boot}", coalesce(local.boot, "-"))])
    })
  }

  # Functions, so that only the one that is asked for is looked at.
  installer_files = {
    "kickstart" = {
      "kickstart.cfg" = templatefile("${path.module}/templates/kickstart.cfg.tftpl", local.facts)
    }
    "preseed" = {
      "preseed.cfg" = templatefile("${path.module}/templates/preseed.cfg.tftpl", local.facts)
      "finish.sh"   = templatefile("${path.module}/templates/finish.sh.tftpl", local.facts)
    }
    "cloud-init" = {
      "cloud-init/user-data"   = local.user_data
      "cloud-init/meta-data"   = yamlencode({ instance-id = var.broker.node_id, local-hostname = local.hostname })
      "cloud-init/vendor-data" = ""
    }
    "none" = {}
  }[var.installer]

  own_files = { for name, text in var.files : name => replace(replace(replace(text,
    "{boot}", coalesce(local.boot, "-")),
    "{hostname}", local.hostname),
    "{keys}", join("\n", var.broker.ssh_public_keys))
  }

  files = var.boot == "disk" ? {} : merge(var.kernel == null ? {} : local.ipxe, local.installer_files, local.own_files)
}

# What cloud-init is told: our part, and the pool's own if it has one.

locals {
  # What is null is left out.
  cloud_config = { for key, value in {
    hostname            = local.hostname
    preserve_hostname   = false
    disable_root        = var.ssh_user != "root"
    ssh_pwauth          = false
    ssh_authorized_keys = var.broker.ssh_public_keys
    ssh_deletekeys      = var.broker.ssh_host_key == null ? null : true
    ssh_keys = var.broker.ssh_host_key == null ? null : {
      ed25519_private = var.broker.ssh_host_key.private_key
      ed25519_public  = var.broker.ssh_host_key.public_key
    }
    users = var.ssh_user == "root" ? null : ["default", {
      name                = var.ssh_user
      shell               = "/bin/bash"
      sudo                = "ALL=(ALL) NOPASSWD:ALL"
      ssh_authorized_keys = var.broker.ssh_public_keys
    }]
    # The last of what cloud-init does.
    runcmd = local.boot == null ? null : [[
      "sh", "-c", "for i in $(seq 60); do curl -fsS -X POST ${local.boot}/done || wget -q -O- --post-data= ${local.boot}/done || { sleep 5; continue; }; break; done",
    ]]
  } : key => value if value != null }

  own       = "#cloud-config\n${yamlencode(local.cloud_config)}"
  boundary  = "duffy-broker-${var.broker.node_id}"
  is_mime   = can(regex("^(?i)(content-type|mime-version):", coalesce(var.user_data, "none")))
  pool_type = startswith(coalesce(var.user_data, "none"), "#!") ? "text/x-shellscript" : startswith(coalesce(var.user_data, "none"), "#cloud-config") ? "text/cloud-config" : "text/plain"

  own_user_data = replace(coalesce(var.user_data, "none"), "{boot}", coalesce(local.boot, "-"))

  # Parts are merged one after the other: with this merge type what is there already
  # stays, and lists are joined. text/plain makes cloud-init look at the first line.
  user_data = var.user_data == null ? local.own : join("\n", [
    "Content-Type: multipart/mixed; boundary=\"${local.boundary}\"",
    "MIME-Version: 1.0",
    "",
    "--${local.boundary}",
    "Content-Type: text/cloud-config",
    "",
    local.own,
    "--${local.boundary}",
    local.is_mime ? local.own_user_data : join("\n", [
      "Content-Type: ${local.pool_type}",
      "Content-Transfer-Encoding: base64",
      "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()",
      "",
      base64encode(local.own_user_data),
    ]),
    "--${local.boundary}--",
    "",
  ])
}
