inventory "rack" {
  host "n1" {
    ipaddr     = "192.0.2.1"
    attributes = { nics = ["a", "b"] }
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
