pool "a" {
  module    = "../modules/local"
  variables = { text = templatefile("../greeting.tftpl", "x") }
}
