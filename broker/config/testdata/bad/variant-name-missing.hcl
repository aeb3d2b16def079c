pool "a" {
  module = "../modules/local"
  variant {
    variables = { size = "small" }
  }
}
