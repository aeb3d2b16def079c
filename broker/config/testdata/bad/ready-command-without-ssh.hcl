pool "a" {
  module = "../modules/local"
  ready {
    ssh     = false
    command = "true"
  }
}
