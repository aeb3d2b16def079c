pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "0 8 * * *"
    fill_level = 1
  }
}
