terraform {
  required_version = ">= 1.5.0, < 2.0.0"
  runs             = 6
  memory_per_run   = "96MiB"
}

account "cloud-eu" {
  rate_limit    = "30/m"
  burst         = 5
  destroy_share = 0.25
}

account "cloud-us" {
  rate_limit = "2.5/s"
}

tenant_defaults {
  node_quota           = 20
  session_lifetime     = "8h"
  session_lifetime_max = "1d"
}

defaults {
  account        = "cloud-eu"
  concurrency    = 2
  create_timeout = "20m"
  variables      = { region = "eu-west-1", tags = { team = "ci", cost = 12 } }

  ready {
    timeout = "3m"
  }
}

template "base" {
  description     = "made from base"
  module          = "./modules/cloud"
  destroy_timeout = "1d"
  variables       = { image = "c9s", size = "small" }

  ready {
    command = "cloud-init status --wait"
  }
}

template "large" {
  extends          = "base"
  max_nodes        = 20
  provider_sharing = true
  variables = { size = "large", tags = { team = "ci-large" } }
}

pool "everything" {
  extends          = "large"
  account          = "cloud-us"
  description      = "all settings"
  module           = "./modules/local"
  fill_level       = 7
  max_nodes        = 9
  concurrency      = 3
  create_timeout   = "1h30m"
  destroy_timeout  = "1w2d3h"
  contextualize    = "none"
  provider_sharing = false
  variables        = { image = null, zone = "a" }

  ready {
    ssh     = true
    command = "true"
    timeout = "90s"
  }
}

pool "inherits-all" {
  extends = "large"
}

pool "no-account" {
  extends = "base"
  account = ""
}

pool "two_levels.up-x86_64" {
  extends    = "base"
  fill_level = 4
}
