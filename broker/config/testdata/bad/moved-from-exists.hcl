pool "old" {
  module = "../modules/local"
}
pool "new" {
  module = "../modules/local"
}
moved {
  from = "old"
  to   = "new"
}
