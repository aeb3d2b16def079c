pool "a" {
  module = "../modules/local"
  schedule "work" {
    cron       = "0 8 * * *"
    end        = "0 18 * * *"
    fill_level = 1
  }
}
