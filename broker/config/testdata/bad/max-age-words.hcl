pool "a" {
  module  = "../modules/local"
  max_age = "a day"
}
