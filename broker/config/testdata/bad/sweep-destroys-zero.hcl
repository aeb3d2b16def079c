pool "a" {
  module = "../modules/local"
  sweep {
    max_destroys = 0
  }
}
