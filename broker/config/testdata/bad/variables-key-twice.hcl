pool "a" {
  module    = "../modules/local"
  variables = {
    size = "small"
    size = "large"
  }
}
