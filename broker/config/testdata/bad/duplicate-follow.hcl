pool "a" {
  module = "../modules/local"

  follow {
    outputs = ["a"]
  }

  follow {
    outputs = ["b"]
  }
}
