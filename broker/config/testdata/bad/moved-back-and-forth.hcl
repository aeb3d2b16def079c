# Moved there and back: the older block is to go.
pool "a" {
  module = "../modules/local"
}
moved {
  from = "a"
  to   = "b"
}
moved {
  from = "b"
  to   = "a"
}
