template "base" {
  module = "../modules/local"
}

template "large" {
  extends = "bsae"
}

pool "a" {
  extends = "large"
}

pool "b" {
  extends = "large"
}
