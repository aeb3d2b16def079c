pool "a" {
  module     = "../modules/local"
  fill_level = 99999999999999999999
}
