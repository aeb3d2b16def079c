inventory "rack" {
  host "n1" {
    hostname = "n 1"
    ipaddr   = "192.0.2.1"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
