# A node without a hypervisor: an SSH server on a loopback address of the
# broker's machine. The duffy-broker binary makes and removes it.

terraform {
  required_version = ">= 1.4" # terraform_data
}

# The claim on the directory. It comes into the state before anything is
# started, and its destroy provisioner removes whatever is there. A destroy
# provisioner of the node itself would not do: Terraform skips those of a
# resource whose create failed or was interrupted.
resource "terraform_data" "directory" {
  input = { dir = var.broker.directory }

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$${DUFFY_BROKER:?is not set: it must be the path of the duffy-broker binary}\" local-node stop --dir \"$NODE_DIR\""
    environment = { NODE_DIR = self.input.dir }
  }
}

resource "terraform_data" "node" {
  input            = { dir = terraform_data.directory.output.dir }
  triggers_replace = [terraform_data.directory.id]

  # Values go through the environment, so that no shell reads them.
  provisioner "local-exec" {
    command = "exec \"$${DUFFY_BROKER:?is not set: it must be the path of the duffy-broker binary}\" local-node start --dir \"$NODE_DIR\" --uid \"$NODE_UID\" --hostname \"$NODE_HOSTNAME\" --keys \"$NODE_KEYS\" --server \"$NODE_SERVER\" --boot-delay \"$NODE_BOOT_DELAY\" --dies-after \"$NODE_DIES_AFTER\" --answers=\"$NODE_ANSWERS\""
    environment = {
      NODE_DIR        = self.input.dir
      NODE_UID        = var.broker.node_id
      NODE_HOSTNAME   = var.broker.hostname
      NODE_KEYS       = join("\n", var.broker.ssh_public_keys)
      NODE_SERVER     = var.ssh_server
      NODE_BOOT_DELAY = "${var.boot_delay}s"
      NODE_DIES_AFTER = "${var.dies_after}s"
      NODE_ANSWERS    = tostring(var.answers)
    }
  }
}

locals {
  # What the node recorded about itself. After somebody wiped the directory the
  # files are missing, and that must not keep the node from being destroyed.
  recorded = {
    for name in ["address", "port", "user", "host_key.pub"] :
    name => try(trimspace(file("${terraform_data.node.output.dir}/${name}")), null)
  }
}
