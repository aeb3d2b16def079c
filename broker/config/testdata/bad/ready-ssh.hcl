pool "a" {
  module = "../modules/local"
  ready {
    ssh = "yes"
  }
}
