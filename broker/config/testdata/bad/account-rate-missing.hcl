account "cloud" {
  burst = 5
}

pool "a" {
  module  = "../modules/local"
  account = "cloud"
}
