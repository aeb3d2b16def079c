defaults {
  variables = { region = "eu", zone = "none" }

  variant "near" {
    variables = { zone = "a" }
    cooldown  = "5m"
  }

  variant "far" {
    variables = { zone = "b", market = "spot" }
  }
}

template "vm" {
  module    = "./modules/local"
  variables = { size = "small" }
}

pool "of-defaults" {
  extends   = "vm"
  variables = { region = "us" }
}

# Its variants replace all that it would inherit.
pool "own" {
  extends = "vm"

  variant "spot" {
    variables = { market = "spot", region = null }
    cooldown  = "1h"
  }

  variant "on-demand" {}
}

# So are those of each instance.
pool "each" {
  for_each = toset(["9", "10"])
  extends  = "vm"

  variant "only" {
    variables = { image = "centos-${each.key}" }
  }
}
