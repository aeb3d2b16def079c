pool "a" {
  module = "builtin:locla"
}
