pool "a" {
  module = "../modules/local"
  sweep {
    interval = "5s"
  }
}
