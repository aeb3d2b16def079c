pool "a" {
  module = "../modules/local"
  ready {
    tmieout = "1m"
  }
}
