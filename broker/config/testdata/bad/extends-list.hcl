template "a" {
  module = "../modules/local"
}

pool "p" {
  extends = ["a"]
}
