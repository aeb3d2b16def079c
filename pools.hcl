# The pools of this broker. This file works as it is, on a laptop, with no cloud:
# a node is an SSH server of its own on the loopback interface.
#
# A setting of a pool comes from the pool, else from the template that it
# extends, else from defaults. `duffy-broker validate` checks the file, and
# docs/pools.md has all of the language: locals, for_each, functions, moved.

terraform {
  # The Terraform versions that the modules work with.
  required_version = ">= 1.5.0"

  # Terraform runs at once, over all pools. Default: what half of the available
  # memory holds (docs/concurrency.md).
  # runs = 8

  # What one run is taken to need, for that default.
  # memory_per_run = "64MiB"
}

# An account with a provider whose API takes only so many calls. The pools that
# name it (account = "cloud") share its rate of Terraform runs.
# account "cloud" {
#   rate_limit    = "30/m" # creates and destroys that start: N/s, N/m or N/h
#   burst         = 5      # at once, after a quiet time
#   destroy_share = 0.5    # of the rate, for destroys, while creates wait too
# }

defaults {
  # Terraform runs at once in one pool.
  concurrency = 2

  # A create or destroy that takes longer is stopped and counts as failed.
  create_timeout  = "5m"
  destroy_timeout = "5m"

  # Let the Terraform runs of a configuration use the same provider processes:
  # less CPU for each node, where the provider is fast. modules/README.md says
  # what it asks of the module.
  # provider_sharing = true

  # "ssh" writes the tenant's key to a node when it is lent; "none" does not.
  contextualize = "ssh"

  # A new node becomes ready once all of this passes.
  ready {
    ssh     = true   # the broker can log in
    command = "true" # a command on the node that must exit with 0
    timeout = "2m"   # tried again until then
  }

  # Where the module can list what exists (docs/sweep.md): how often that is
  # compared with the records, "0s" for never, and how many nodes one time may
  # destroy.
  # sweep {
  #   interval     = "10m"
  #   max_destroys = 5
  # }
}

# What tenants have that set nothing of their own. These are the built-in values.
#
# tenant_defaults {
#   node_quota           = 10    # nodes at once
#   session_lifetime     = "6h"  # of a session that is not extended
#   session_lifetime_max = "12h" # beyond which it can't be extended
# }

template "local" {
  # The Terraform module that makes one node: a directory, relative to this file.
  # "builtin:local" is the same module, out of the program: docs/modules.md.
  module = "./modules/local"
}

pool "local-small" {
  extends     = "local"
  description = "Small nodes on this machine"

  # Ready nodes to keep in stock.
  fill_level = 3

  # Nodes at most, lent ones included.
  max_nodes = 8

  # Other numbers in working hours (docs/schedule.md).
  # schedule "work" {
  #   cron       = "0 8 * * 1-5"
  #   duration   = "10h"
  #   timezone   = "Europe/Prague"
  #   fill_level = 6
  #   max_nodes  = 20
  # }

  # The age from which a node is not lent any more. Stock is renewed before that.
  # max_age = "24h"

  # Inputs of the module; functions and expressions are Terraform's.
  variables = {
    size = "small"
  }
}

pool "local-large" {
  extends     = "local"
  description = "Large nodes on this machine"
  fill_level  = 2
  max_nodes   = 4

  variables = {
    size = "large"
  }
}

# The API of Duffy v2, for old jobs. Their keys: duffy-broker legacy key add.
# docs/legacy.md has all settings.
#
# legacy {
#   map {
#     ver  = "7"          # a text, or an expression: "/^(8|9)-stream$/"
#     arch = "x86_64"     # what is left out fits everything
#     pool = "local-small" # may use ver, arch and flavor
#   }
# }
