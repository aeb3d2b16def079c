template "lcoal" {
  module = "../modules/local"
}

pool "a" {
  extends = "local"
}
