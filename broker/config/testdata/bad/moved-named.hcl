pool "c" {
  module = "../modules/local"
}
moved "a" {
  from = "a"
  to   = "c"
}
