pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "CRON_TZ=Europe/Prague 0 8 * * *"
    duration   = "10h"
    fill_level = 1
  }
}
