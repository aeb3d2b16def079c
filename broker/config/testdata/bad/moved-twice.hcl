pool "b" {
  module = "../modules/local"
}
pool "c" {
  module = "../modules/local"
}
moved {
  from = "a"
  to   = "b"
}
moved {
  from = "a"
  to   = "c"
}
