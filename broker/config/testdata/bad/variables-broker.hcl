pool "a" {
  module = "../modules/local"
  variables = {
    size   = "small"
    broker = { id = "mine" }
  }
}
