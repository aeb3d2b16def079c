pool "a" {
  for_each  = toset(["x", "y"])
  module    = "../modules/local"
  variables = { image = each.name }
}
