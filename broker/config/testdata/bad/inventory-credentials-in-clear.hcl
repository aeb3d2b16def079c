inventory "rack" {
  host "n1" {
    ipaddr      = "192.0.2.1"
    credentials = { BMC_PASSWORD = "hunter2" }
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
