terraform {
  runs = 0
}

pool "a" {
  module = "../modules/local"
}
