account "cloud-eu" { rate_limit = "30/m" }
account "cloud-us" { rate_limit = "30/m" }

pool "a" {
  module  = "../modules/local"
  account = "cloud-ue"
}
