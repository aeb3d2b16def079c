pool "a" {
  module    = "../modules/local"
  variables = ["small"]
}
