pool "a" {
  module = "../modules/local"
  max_nodes = 10
  schedule "work" {
    cron       = "0 8 * * *"
    duration   = "10h"
    fill_level = 20
  }
}
