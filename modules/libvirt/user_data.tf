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
  } : key => value if value != null }

  own       = "#cloud-config\n${yamlencode(local.cloud_config)}"
  boundary  = "duffy-broker-${var.broker.node_id}"
  is_mime   = can(regex("^(?i)(content-type|mime-version):", coalesce(var.user_data, "none")))
  pool_type = startswith(coalesce(var.user_data, "none"), "#!") ? "text/x-shellscript" : startswith(coalesce(var.user_data, "none"), "#cloud-config") ? "text/cloud-config" : "text/plain"

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
    local.is_mime ? var.user_data : join("\n", [
      "Content-Type: ${local.pool_type}",
      "Content-Transfer-Encoding: base64",
      "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()",
      "",
      base64encode(var.user_data),
    ]),
    "--${local.boundary}--",
    "",
  ])
}
