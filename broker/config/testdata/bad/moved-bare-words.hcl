pool "c" {
  module = "../modules/local"
}
moved {
  from = pool.a
  to   = "c"
}
