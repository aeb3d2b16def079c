resource "null_resource" "a" {}

pool "a" {
  module = "../modules/local"
}
