pool "a" {
  module = "../modules/local"
}

pool "b" {
  extends = "a"
}
