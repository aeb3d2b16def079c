pool "a" {
  module      = "../modules/local"
  hourly_cost = "12 cents"
}
