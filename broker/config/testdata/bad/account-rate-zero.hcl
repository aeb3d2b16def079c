account "cloud" {
  rate_limit = "0/s"
}

pool "a" {
  module = "../modules/local"
}
