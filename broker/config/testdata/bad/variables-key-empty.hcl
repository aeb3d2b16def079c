pool "a" {
  module    = "../modules/local"
  variables = { "" = 1 }
}
