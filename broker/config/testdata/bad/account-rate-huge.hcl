account "cloud" {
  rate_limit = "5000/s"
}

pool "a" {
  module = "../modules/local"
}
