# What cloud-init is told: the keys of whoever may log in, the host key that the broker
# made, so that even the first connection is verified, and the watcher. After that comes
# the user data of the pool.

locals {
  watching = local.spot && var.interruption_watcher && var.broker.url != null && var.broker.token != null

  cloud_config = merge(
    {
      hostname            = var.broker.hostname
      preserve_hostname   = false
      ssh_authorized_keys = var.broker.ssh_public_keys
      disable_root        = var.ssh_user != "root"
    },
    # Another than the image's own first user is made.
    { for name, value in {
      users = ["default", {
        name                = var.ssh_user
        shell               = "/bin/bash"
        sudo                = "ALL=(ALL) NOPASSWD:ALL"
        ssh_authorized_keys = var.broker.ssh_public_keys
      }]
    } : name => value if var.ssh_user != "root" },
    # Both are left out with a filter: the two sides of a conditional would need the same
    # attributes.
    { for name, value in {
      ssh_deletekeys = true
      ssh_keys = {
        ed25519_private = try(var.broker.ssh_host_key.private_key, null)
        ed25519_public  = try(var.broker.ssh_host_key.public_key, null)
      }
    } : name => value if var.broker.ssh_host_key != null },
    { for name, value in {
      write_files = [
        {
          path        = "/usr/local/lib/duffy/interruption-watcher"
          permissions = "0755"
          content     = file("${path.module}/interruption-watcher.sh")
        },
        {
          path        = "/etc/duffy/interruption-watcher.env"
          permissions = "0600"
          content     = "DUFFY_URL=${coalesce(var.broker.url, "-")}\nDUFFY_TOKEN=${coalesce(var.broker.token, "-")}\n"
        },
        {
          path    = "/etc/systemd/system/duffy-interruption-watcher.service"
          content = file("${path.module}/interruption-watcher.service")
        },
      ]
      runcmd = [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--now", "--no-block", "duffy-interruption-watcher.service"],
      ]
    } : name => value if local.watching },
  )

  kinds = {
    "#cloud-config"   = "text/cloud-config"
    "#!"              = "text/x-shellscript"
    "#cloud-boothook" = "text/cloud-boothook"
    "#include"        = "text/x-include-url"
    "#part-handler"   = "text/part-handler"
    "## template:"    = "text/jinja2"
  }
  own   = coalesce(var.user_data, "#cloud-config\n")
  kind  = one([for start, type in local.kinds : type if startswith(local.own, start)]) # null: a multipart
  plain = !can(regex("[^\\x00-\\x7F]", local.own))

  boundary = "==duffy-${var.broker.node_id}=="

  user_data = join("\n", concat(
    [
      "MIME-Version: 1.0",
      "Content-Type: multipart/mixed; boundary=\"${local.boundary}\"",
      "",
      "--${local.boundary}",
      "Content-Type: text/cloud-config; charset=\"utf-8\"",
      "",
      "#cloud-config",
      # JSON is YAML. The escapes of jsonencode are those of YAML's strings too.
      jsonencode(local.cloud_config),
    ],
    # A multipart is put in as it is: it has headers of its own.
    var.user_data == null ? [] : local.kind == null ? ["--${local.boundary}", local.own] : [
      "--${local.boundary}",
      "Content-Type: ${local.kind}; charset=\"utf-8\"",
      # What is not ASCII does not survive without, and the rest is shorter as it is.
      "Content-Transfer-Encoding: ${local.plain ? "7bit" : "base64"}",
      # Lists are appended to the module's, and what the module has set stays.
      "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()",
      "",
      local.plain ? local.own : base64encode(local.own),
    ],
    ["--${local.boundary}--", ""],
  ))

  # length() counts characters, and EC2 bytes.
  base64         = base64encode(local.user_data)
  user_data_size = length(local.base64) / 4 * 3 - length(regex("=*$", local.base64))
}
