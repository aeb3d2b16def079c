inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.1"
  }

  host "n2" {
    ipaddr = "::ffff:192.0.2.1"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
