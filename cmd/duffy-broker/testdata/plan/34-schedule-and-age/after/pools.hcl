pool "a" {
  module      = "../../modules/node"
  fill_level  = 2
  max_nodes   = 8
  hourly_cost = 0.5
  max_age     = "48h"

  schedule "work" {
    cron       = "0 8 * * 1-5"
    duration   = "10h"
    timezone   = "Europe/Prague"
    fill_level = 6
  }

  schedule "night" {
    cron       = "0 22 * * *"
    duration   = "8h"
    timezone   = "Europe/Prague"
    fill_level = 0
  }
}
