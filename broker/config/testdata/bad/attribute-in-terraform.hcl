terraform {
  version = ">= 1.5.0"
}

pool "a" {
  module = "../modules/local"
}
