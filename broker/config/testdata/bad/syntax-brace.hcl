pool "a" {
  module = "../modules/local"

pool "b" {
  module = "../modules/local"
}
