pool "a" {
  module  = "../modules/local"
  account = ["cloud"]
}
