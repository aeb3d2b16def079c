pool "a" {
  module = "../modules/local"
  ready {
    timeout = "soon"
  }
}
