pool "a" {
  module = "../modules/local"
  provisioner "shell" {}
}
