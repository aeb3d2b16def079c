inventory "rack" {
  host "n1" {
    mac = "52:54:00:12:34:56"
  }
}

pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
