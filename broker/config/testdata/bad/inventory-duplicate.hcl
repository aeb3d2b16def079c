inventory "rack" {
  host "n1" {
    ipaddr     = "192.0.2.1"
    attributes = { arch = "x86_64" }
  }
}
inventory "rack" {
  host "n2" {
    ipaddr     = "192.0.2.2"
    attributes = { arch = "x86_64" }
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
