defaults {
  max_age = "1d"

  schedule "nights" {
    cron       = "0 20 * * *"
    duration   = "12h"
    timezone   = "Europe/Prague"
    fill_level = 1
  }
}

template "busy" {
  module     = "./modules/local"
  fill_level = 2

  schedule "work" {
    cron       = "0 8 * * 1-5"
    duration   = "10h"
    timezone   = "Europe/Prague"
    fill_level = 20
    max_nodes  = 40
  }

  schedule "release" {
    cron      = "0 12 * * TUE"
    duration  = "4h"
    max_nodes = 60
  }
}

pool "of-defaults" {
  module     = "./modules/local"
  fill_level = 3
  max_age    = "0s"
}

pool "of-template" {
  extends   = "busy"
  max_nodes = 30
}

# Its windows replace all that it would inherit.
pool "own" {
  extends = "busy"

  schedule "mornings" {
    cron       = "30 7 * * *"
    duration   = "90m"
    fill_level = 10
  }
}
