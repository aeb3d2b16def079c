acount "cloud" { rate_limit = "30/m" }

pool "a" {
  module  = "../modules/local"
  account = "cloud"
}
