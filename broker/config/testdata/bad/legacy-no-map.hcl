pool "a" {
  module = "../modules/local"
}

legacy {
  when_empty = "v2"
}
