pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "0 8 * * *"
    duration   = "10h"
    timezone   = "CEST"
    fill_level = 1
  }
}
