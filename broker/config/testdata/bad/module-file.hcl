pool "a" {
  module = "../modules/local/main.tf"
}
