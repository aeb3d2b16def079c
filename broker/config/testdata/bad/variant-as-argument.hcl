pool "a" {
  module  = "../modules/local"
  variant = { zone = "a" }
}
