pool "a" {
  module = "../modules/local"
  environment = { TF_VAR_size = "small" }
}
