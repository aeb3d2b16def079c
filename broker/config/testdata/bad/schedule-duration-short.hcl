pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "0 8 * * *"
    duration   = "30s"
    fill_level = 1
  }
}
