pool "a" {
  module = "../modules/local"
}
moved {
  from = "a"
  to   = "a"
}
