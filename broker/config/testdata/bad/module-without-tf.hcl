pool "a" {
  module = "../modules/empty"
}
