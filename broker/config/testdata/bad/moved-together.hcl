pool "c" {
  module = "../modules/local"
}
moved {
  from = "a"
  to   = "c"
}
moved {
  from = "b"
  to   = "c"
}
