pool "a" {
  module    = "../modules/local"
  variables = { id = uuid() }
}
