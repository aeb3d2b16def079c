# User data: a MIME multipart of our cloud-config and the pool's own part.

locals {
  # Keys for root need disable_root = false; those in ssh_authorized_keys are put in
  # for the image's default user as well. JSON is YAML, and quotes what needs quotes.
  cloud_config = merge(
    {
      hostname            = var.broker.hostname
      preserve_hostname   = false
      disable_root        = var.ssh_user != "root"
      ssh_authorized_keys = var.broker.ssh_public_keys
      ssh_deletekeys      = true
    },
    var.ssh_user == "root" ? {} : {
      users = ["default", {
        name                = var.ssh_user
        lock_passwd         = true
        shell               = "/bin/bash"
        sudo                = "ALL=(ALL) NOPASSWD:ALL"
        ssh_authorized_keys = var.broker.ssh_public_keys
      }]
    },
    # The image's server shows the key that the broker expects, and no other: who
    # asks for another kind is not sure whom he talks to.
    var.broker.ssh_host_key == null ? {} : {
      ssh_keys = {
        ed25519_private = var.broker.ssh_host_key.private_key
        ed25519_public  = var.broker.ssh_host_key.public_key
      }
    },
  )

  kinds = {
    "#cloud-config"   = "text/cloud-config"
    "#!"              = "text/x-shellscript"
    "#cloud-boothook" = "text/cloud-boothook"
    "#include"        = "text/x-include-url"
    "#part-handler"   = "text/part-handler"
    "## template:"    = "text/jinja2"
  }
  own      = coalesce(var.user_data, "#cloud-config\n")
  kind     = one([for start, type in local.kinds : type if startswith(local.own, start)])
  boundary = "duffy-broker-${sha256(local.own)}"

  # In a conflict the part that comes first wins, which is ours, so that the broker
  # can log in in any case; lists of both are joined. A multipart is put in as it is:
  # it has headers of its own.
  user_data = join("\n", concat(
    [
      "MIME-Version: 1.0",
      "Content-Type: multipart/mixed; boundary=\"${local.boundary}\"",
      "",
      "--${local.boundary}",
      "MIME-Version: 1.0",
      "Content-Type: text/cloud-config; charset=\"utf-8\"",
      "",
      "#cloud-config",
      jsonencode(local.cloud_config),
      "",
    ],
    var.user_data == null ? [] : local.kind == null ? ["--${local.boundary}", local.own, ""] : [
      "--${local.boundary}",
      "MIME-Version: 1.0",
      "Content-Type: ${local.kind}; charset=\"utf-8\"",
      "Content-Transfer-Encoding: base64",
      "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()",
      "",
      base64encode(local.own),
      "",
    ],
    ["--${local.boundary}--", ""],
  ))
}
