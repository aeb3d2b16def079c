template "t" {
  module = "../modules/local"
}

template "t" {
  module = "../modules/local"
}

pool "a" {
  extends = "t"
}
