template "x/y" {
  module = "../modules/local"
}

pool "a" {
  extends = "x/y"
}
