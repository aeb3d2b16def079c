account "cloud" {
  rate_limit = "30 per minute"
}

pool "a" {
  module = "../modules/local"
}
