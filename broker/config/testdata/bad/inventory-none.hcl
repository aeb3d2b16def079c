
pool "a" {
  module    = "../modules/local"
  inventory = "rack"
}
