defaults {
  hourly_cost = 0.25
  labels      = { team = "ci", tier = "std" }
}

pool "inherits" {
  module = "./modules/local"
}

pool "own" {
  module      = "./modules/local"
  hourly_cost = 1.5
  labels      = { team = "release", rank = "3" }
}

pool "none" {
  module      = "./modules/local"
  hourly_cost = 0
  labels      = {}
}
