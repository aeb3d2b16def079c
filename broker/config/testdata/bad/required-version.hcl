terraform {
  required_version = "newest"
}

pool "a" {
  module = "../modules/local"
}
