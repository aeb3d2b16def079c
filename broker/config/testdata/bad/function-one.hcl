pool "a" {
  module    = "../modules/local"
  variables = { size = one(["a", "b"]) }
}
