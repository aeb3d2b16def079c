pool "a" {
  module = "../modules/local"
}

legacy {
  map "first" {
    pool = "a"
  }
}
