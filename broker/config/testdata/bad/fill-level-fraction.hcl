pool "a" {
  module     = "../modules/local"
  fill_level = 2.5
}
