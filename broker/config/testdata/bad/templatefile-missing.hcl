pool "a" {
  module    = "../modules/local"
  variables = { text = templatefile("nowhere.tftpl", {}) }
}
