account "cloud" { rate_limit = "30/m" }
account "cloud" { rate_limit = "60/m" }

pool "a" {
  module = "../modules/local"
}
