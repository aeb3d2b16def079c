terraform {
  required_providers {
    fakecloud = {
      source  = "fakecloud.test/duffy-broker/fakecloud"
      version = "1.0.0"
    }
  }
}

provider "fakecloud" {
  endpoint     = var.endpoint
  default_tags = var.broker.tags
}

resource "fakecloud_instance" "node" {
  name            = var.broker.hostname
  size            = var.size
  ssh             = var.ssh
  ssh_public_keys = var.broker.ssh_public_keys
}
