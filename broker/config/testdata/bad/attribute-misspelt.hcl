pool "a" {
  module     = "../modules/local"
  fill_levle = 3
}
