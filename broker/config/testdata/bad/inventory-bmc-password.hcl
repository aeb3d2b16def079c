inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.1"
    bmc    = { address = "192.0.2.9", password = "hunter2" }
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
