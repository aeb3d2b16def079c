pool "a" {
  module = "../modules/local"
}

legacy {
  map {
    pool = [ver]
  }
}
