inventory "rack" {
  host "n1" {
    ipadr = "192.0.2.1"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
