inventory "rack" {
  hosts = { "n/1" = { ipaddr = "192.0.2.1" } }

  host "n2" {
    ipaddr = "192.0.2.2"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = { name = "rack", where = { arch = "x86_64" } }
}
