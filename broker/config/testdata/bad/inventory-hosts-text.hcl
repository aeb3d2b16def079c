inventory "rack" {
  hosts = "n1"
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
