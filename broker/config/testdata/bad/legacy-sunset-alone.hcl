pool "a" {
  module = "../modules/local"
}

legacy {
  sunset = "2027-01-31"
  map {
    pool = "a"
  }
}
