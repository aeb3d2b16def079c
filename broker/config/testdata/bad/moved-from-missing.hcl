pool "c" {
  module = "../modules/local"
}
moved {
  to = "c"
}
