pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "0 8 * * 1-5"
    duration   = "10h"
    fill_level = 2
  }
  schedule "work" {
    cron       = "0 8 * * 6"
    duration   = "4h"
    fill_level = 1
  }
}
