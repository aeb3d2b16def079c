pool "a" {
  module = "../modules/local"
  schedule {
    cron       = "0 8 * * 1-5"
    duration   = "10h"
    fill_level = 2
  }
}
