pool "x" {
  module = "../modules/local"
}
moved {
  from = "a"
  to   = "b"
}
moved {
  from = "b"
  to   = "gone"
}
