inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.0/24"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
