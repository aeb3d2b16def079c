pool "a" {
  module    = "../modules/local"
  variables = { text = templatefile("../greeting.tftpl", { name = 1, sizes = 3 }) }
}
