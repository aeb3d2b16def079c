template "t" {
  module    = "../modules/local"
  variables = { image = each.value }
}
pool "a" {
  for_each = toset(["x", "y"])
  extends  = "t"
}
