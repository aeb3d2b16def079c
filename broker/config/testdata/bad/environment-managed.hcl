pool "a" {
  module = "../modules/local"
  environment = { TF_LOG = "debug" }
}
