pool "a" {
  module = "builtin:mainframe"
}
