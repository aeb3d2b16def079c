pool "c" {
  module = "../modules/local"
}
moved {
  from = ["a", "b"]
  to   = "c"
}
