pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "@daily"
    duration   = "10h"
    fill_level = 1
  }
}
