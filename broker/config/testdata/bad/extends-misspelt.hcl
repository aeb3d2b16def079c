template "t" {
  module = "../modules/local"
}

pool "a" {
  extend = "t"
}
