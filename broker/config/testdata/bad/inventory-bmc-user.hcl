inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.1"
    bmc    = { address = "https://root:hunter2@192.0.2.9", kind = "redfish" }
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
