defaults {
  extends = "base"
}

template "base" {}

pool "a" {
  module = "../modules/local"
}
