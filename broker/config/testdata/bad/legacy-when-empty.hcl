pool "a" {
  module = "../modules/local"
}

legacy {
  when_empty = "v4"
  map {
    pool = "a"
  }
}
