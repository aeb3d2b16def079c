pool "a" {
  module = "../modules/local"
  variant "zone a" {
    variables = { size = "small" }
  }
}
