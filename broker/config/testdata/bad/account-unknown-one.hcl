account "cloud-eu" { rate_limit = "30/m" }

defaults {
  account = "mine"
}

pool "a" {
  module = "../modules/local"
}

pool "b" {
  module = "../modules/local"
}
