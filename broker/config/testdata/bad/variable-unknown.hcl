pool "a" {
  module    = "../modules/local"
  variables = { size = local.size }
}
