pool "a" {
  module    = "../modules/local"
  variables = merge({ broker = 1 }, { size = "small" })
}
