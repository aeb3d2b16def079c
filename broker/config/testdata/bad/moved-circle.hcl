pool "x" {
  module = "../modules/local"
}
moved {
  from = "a"
  to   = "b"
}
moved {
  from = "b"
  to   = "c"
}
moved {
  from = "c"
  to   = "a"
}
