pool "a" {
  module = "../modules/local"
}

legacy {
  map {
    pool = "a"
  }
}

legacy {
  map {
    pool = "b"
  }
}
