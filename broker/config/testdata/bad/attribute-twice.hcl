pool "a" {
  module     = "../modules/local"
  fill_level = 3
  fill_level = 4
}
