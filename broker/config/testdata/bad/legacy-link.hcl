pool "a" {
  module = "../modules/local"
}

legacy {
  link = "example.org"
  map {
    pool = "a"
  }
}
