template "busy" {
  module = "../modules/local"
  schedule "work" {
    cron       = "0 8 * * 1-5"
    duration   = "10h"
    fill_level = 20
  }
}

pool "a" {
  extends   = "busy"
  max_nodes = 40
}

pool "b" {
  extends   = "busy"
  max_nodes = 10
}
