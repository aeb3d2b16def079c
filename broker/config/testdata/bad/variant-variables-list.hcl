pool "a" {
  module = "../modules/local"
  variant "spot" {
    variables = ["small"]
  }
}
