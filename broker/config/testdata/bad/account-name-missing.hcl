account { rate_limit = "30/m" }

pool "a" {
  module = "../modules/local"
}
