pool "a" {
  module         = "../modules/local"
  create_timeout = "-5m"
}
