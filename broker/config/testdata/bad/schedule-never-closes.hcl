pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "0 8 * * *"
    duration   = "24h"
    fill_level = 1
  }
}
