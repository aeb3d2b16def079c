pool "a" {
  module     = "../modules/local"
  fill-level = 3
}
