account "cloud" {
  rate_limt = "30/m"
}

pool "a" {
  module  = "../modules/local"
  account = "cloud"
}
