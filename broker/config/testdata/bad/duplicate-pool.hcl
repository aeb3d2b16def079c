pool "a" {
  module = "../modules/local"
}

pool "a" {
  module = "../modules/local"
}
