policy {}
policy {}
pool "a" {
  module = "../modules/local"
}
