pool "a" {
  module    = "../modules/local"
  variables = { size = uper("small") }
}
