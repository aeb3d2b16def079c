pool "a" {
  module = "../modules/local"
}

legacy {
  default_flavor = "tiny"
  map {
    pool = "a"
  }
}
