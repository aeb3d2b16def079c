pool "a" {
  module = "../modules/local"
  fill_level = 4
  schedule "work" {
    cron       = "0 8 * * *"
    duration   = "10h"
    max_nodes  = 3
  }
}
