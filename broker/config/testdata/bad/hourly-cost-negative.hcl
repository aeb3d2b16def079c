pool "a" {
  module      = "../modules/local"
  hourly_cost = -0.5
}
