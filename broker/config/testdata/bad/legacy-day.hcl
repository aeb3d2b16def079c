pool "a" {
  module = "../modules/local"
}

legacy {
  deprecated = "31.1.2027"
  map {
    pool = "a"
  }
}
