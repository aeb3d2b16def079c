account "cloud" {
  rate_limit = 30
}

pool "a" {
  module = "../modules/local"
}
