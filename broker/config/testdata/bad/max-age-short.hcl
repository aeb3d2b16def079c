defaults {
  create_timeout = "20m"
}

pool "a" {
  module  = "../modules/local"
  max_age = "30m"
}
