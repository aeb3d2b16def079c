pool "first" {
  module = "../modules/local"
}
moved {
  from = "old"
  to   = "other"
}
