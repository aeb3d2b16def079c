pool "a" {
  module = "../modules/local"
  environment = { "A-B" = "c" }
}
