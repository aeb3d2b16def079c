template "a" {
  module = "../modules/local"
}

pool "a" {
  extends = "a"
}
