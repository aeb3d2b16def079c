pool "a" {
  module = "../modules/local"
  ready {
    http {}
  }
}
