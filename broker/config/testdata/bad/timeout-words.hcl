pool "a" {
  module          = "../modules/local"
  destroy_timeout = "15 minutes"
}
