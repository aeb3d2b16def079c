pool "a" {
  module   = "../modules/local"
  schedule = "0 8 * * 1-5"
}
