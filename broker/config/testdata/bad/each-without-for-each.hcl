pool "a" {
  module    = "../modules/local"
  variables = { image = each.key }
}
