pool "a" {
  module = "../modules/local"

  follow {
    outputs = ["image id"]
  }
}
