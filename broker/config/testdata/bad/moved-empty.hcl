pool "c" {
  module = "../modules/local"
}
moved {
  from = ""
  to   = "c"
}
