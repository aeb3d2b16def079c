pool "a" {
  module    = "../modules/local"
  variables = { password = sensitive("x") }
}
