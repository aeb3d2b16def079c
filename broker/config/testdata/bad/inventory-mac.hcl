inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.1"
    mac    = "52:54:00"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
