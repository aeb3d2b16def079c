inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.1"
    arch   = "x86_64"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
