pool "a" {
  module = "../modules/local"
  environment = ["A"]
}
