pool "a" {
  module = ""
}
