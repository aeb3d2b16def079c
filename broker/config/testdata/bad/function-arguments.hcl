pool "a" {
  module    = "../modules/local"
  variables = { size = upper("small", "large") }
}
