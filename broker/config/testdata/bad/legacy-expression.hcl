pool "a" {
  module = "../modules/local"
}

legacy {
  map {
    arch = "/^(x86_64$/"
    pool = "a"
  }
}
