account "cloud" {
  rate_limit = "30/m"
  burst      = 0
}

pool "a" {
  module = "../modules/local"
}
