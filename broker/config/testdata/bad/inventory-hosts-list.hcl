inventory "rack" {
  hosts = [{ name = "n1", ipaddr = "192.0.2.1" }, { ipaddr = "192.0.2.2" }]
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
