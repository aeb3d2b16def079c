locals {
  names = ["REGION"]
}
environment {
  allow = local.names
}
pool "a" {
  module = "../modules/local"
}
