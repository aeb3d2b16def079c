template "el9" {
  module = "../modules/local"
}

template "large" {
  module = "../modules/local"
}

pool "a" {
  extends = "rh9"
}
