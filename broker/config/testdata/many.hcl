# Mistakes of every kind in one file. All of them are reported.
terraform {
  required_version = "latest"
  rnus             = 4
}

defaults {
  concurrency = -2
  variables   = { broker = {} }
}

template "base" {
  module        = "./modules/nowhere"
  contextualize = "telnet"
}

template "circle" {
  extends = "circle"
}

pool "a" {
  extends    = "base"
  fill_level = "three"
  max_nodes  = 0
}

pool "b" {
  extends        = "base"
  fill_level     = 3 +
  create_timeout = "later"
}

pool "c" {
  extends    = "circle"
  fill_level = 8
  max_nodes  = 2

  ready {
    command = lowercase("TRUE")
    timeout = 5
  }
}

pool "c" {
  extends = "bsae"
}

pool "e e" {
  description = var.text
}

poool "f" {}
