pool "a" {
  module = "../modules/locla"
}
