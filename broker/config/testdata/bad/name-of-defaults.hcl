defaults "a" {}

pool "a" {
  module = "../modules/local"
}
