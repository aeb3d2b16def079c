inventory "rack" {
  host {
    ipaddr = "192.0.2.1"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
