# A module whose provider can be shared: it depends on the pool alone.

terraform {
  required_providers {
    fakecloud = {
      source  = "fakecloud.test/duffy-broker/fakecloud"
      version = "1.0.0"
    }
  }
}

provider "fakecloud" {
  endpoint = var.endpoint
  region   = var.region
}

resource "fakecloud_instance" "node" {
  count           = var.instances
  name            = "${var.broker.hostname}-${count.index}"
  tags            = var.broker.tags
  ssh_public_keys = var.broker.ssh_public_keys
}
