pool "a" {
  module = "../modules/local"
}

legacy {
  deprecated = "2027-02-01"
  sunset     = "2027-01-31"
  map {
    pool = "a"
  }
}
