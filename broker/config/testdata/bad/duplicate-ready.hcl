pool "a" {
  module = "../modules/local"
  ready {
    ssh = true
  }
  ready {
    timeout = "1m"
  }
}
