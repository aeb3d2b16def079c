pool "a" {
  module    = "../modules/local"
  variables = { made = timestamp() }
}
