# Every block and every setting: docs/pools.md takes its examples from here.

environment {
  allow = ["REGION"]
}

locals {
  region = env("REGION", "eu-west-1")
  matrix = {
    for p in setproduct(["9", "10"], ["x86_64", "aarch64"]) : join("-", p) => { release = p[0], arch = p[1] }
  }
}

terraform {
  required_version = ">= 1.5.0"
  runs             = 8
  memory_per_run   = "64MiB"
}

inventory "rack1" {
  hosts = yamldecode(file("rack1.yaml"))

  host "n1" {
    hostname    = "n1.example.net"
    ipaddr      = "192.0.2.1"
    mac         = "52:54:00:12:34:56"
    bmc         = { address = "https://192.0.2.101", kind = "redfish" }
    credentials = { REDFISH_PASSWORD = "file:/etc/duffy-broker/rack1.password" }
    attributes  = { arch = "x86_64", site = "brno", rack = 4 }
    comment     = "the fan is loud"
  }
}

account "cloud" {
  rate_limit    = "30/m"
  burst         = 5
  destroy_share = 0.5
}

legacy {
  main_port           = true
  default_ver         = "9-stream"
  default_arch        = "x86_64"
  default_flavor      = { aarch64 = "tiny" }
  hostname            = split(".", hostname)[0]
  when_empty          = "v2"
  max_wait            = "30s"
  session_limit       = 10
  session_window      = "5m"
  keep_for            = "6h"
  kept_nodes          = 5
  inventory           = "auto"
  anonymous_inventory = true
  deprecated          = "2027-01-31"
  sunset              = "2027-12-31"
  link                = "https://example.org/moving"

  map {
    ver    = "/^(8|9|10)-stream$/"
    arch   = "x86_64"
    flavor = "small"
    pool   = "centos-${replace(ver, "-stream", "")}-${arch}"
  }
}

policy {
  deny "stock-in-use" {
    condition = new == null && stock.lent > 0
    message   = "Pool ${old.name} has ${stock.lent} nodes lent: wait until they are back."
  }

  warn "large" {
    condition = new != null && new.max_nodes > 100
    message   = "Pool ${new.name} may grow to ${new.max_nodes} nodes."
  }
}

reload {
  confirm_above = 0.25
  confirm_from  = 20
}

tenant_defaults {
  node_quota           = 10
  session_lifetime     = "6h"
  session_lifetime_max = "12h"
}

defaults {
  description      = "A node for CI"
  module           = "./modules/cloud"
  variables        = { region = local.region }
  fill_level       = 2
  max_nodes        = 10
  concurrency      = 4
  create_timeout   = "15m"
  destroy_timeout  = "15m"
  max_age          = "24h"
  contextualize    = "ssh"
  legacy           = true
  provider_sharing = false
  account          = "cloud"
  inventory        = { name = "rack1", where = { arch = "x86_64", site = "brno" } }
  tenants          = ["ci", "nightly"]
  hourly_cost      = 0.25
  labels           = { team = "ci" }
  environment      = { AWS_REGION = local.region }
  credentials      = { AWS_SECRET_ACCESS_KEY = "file:/etc/duffy-broker/aws-secret", AWS_ACCESS_KEY_ID = "env:AWS_ACCESS_KEY_ID" }

  ready {
    ssh     = true
    command = "cloud-init status --wait"
    timeout = "5m"
  }

  schedule "work" {
    cron       = "0 8 * * 1-5"
    duration   = "10h"
    timezone   = "Europe/Prague"
    fill_level = 6
    max_nodes  = 20
  }

  variant "near" {
    variables = { zone = "a" }
    cooldown  = "10m"
  }

  variant "far" {
    variables = { zone = "b" }
  }

  rollout {
    max_surge       = 1
    max_unavailable = 0
    pause_after     = 2
    serve_stale     = true
  }

  follow {
    outputs = ["image_id"]
    every   = "6h"
  }

  sweep {
    interval     = "10m"
    max_destroys = 5
  }
}

template "vm" {
  variables = { size = "small" }
}

template "large-vm" {
  extends    = "vm"
  fill_level = 1
  variables  = { size = "large" }
}

pool "centos" {
  for_each  = local.matrix
  name      = "centos-${each.value.release}-${each.value.arch}"
  extends   = "vm"
  variables = { image = "centos-stream-${each.value.release}", arch = each.value.arch }
}

moved {
  from = "c9s"
  to   = "centos-9-x86_64"
}
