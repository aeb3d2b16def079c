pool "a" {
  module = "../modules/local"
  variant "spot" {
    variables = { broker = "mine" }
  }
}
