pool "a" {
  module = "../modules/local"
  variant "spot" {
    variables = { size = "small" }
  }
  variant "spot" {
    variables = { size = "large" }
  }
}
