locals {
  region = "eu"
}

template "base" {
  module    = "../modules/local"
  variables = { region = local.region, zone = local.zone, motd = file("motd.txt") }
}
