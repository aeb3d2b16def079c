account "cloud" {
  rate_limit    = "30/m"
  destroy_share = 1
}

pool "a" {
  module = "../modules/local"
}
