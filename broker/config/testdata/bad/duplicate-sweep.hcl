pool "a" {
  module = "../modules/local"
  sweep {
    interval = "1m"
  }
  sweep {
    max_destroys = 2
  }
}
