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

  user_data_type = (
    var.user_data == null ? "text/plain" :
    startswith(var.user_data, "#cloud-config") ? "text/cloud-config" :
    startswith(var.user_data, "#include") ? "text/x-include-url" :
    startswith(var.user_data, "#cloud-boothook") ? "text/cloud-boothook" :
    startswith(var.user_data, "#!") ? "text/x-shellscript" : "text/jinja2"
  )

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
    var.user_data == null ? [] : [
      "--${local.boundary}",
      "Content-Type: ${local.user_data_type}; charset=\"utf-8\"",
      # Lists are appended to the module's, and what the module has set stays.
      "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()",
      "",
      coalesce(var.user_data, "-"),
    ],
    ["--${local.boundary}--", ""],
  ))
}
