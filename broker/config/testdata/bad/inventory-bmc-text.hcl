inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.1"
    bmc    = "192.0.2.9"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
