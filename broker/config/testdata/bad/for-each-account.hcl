pool "a" {
  for_each = toset(["", "x"])
  name     = "a${each.key}"
  module   = "../modules/local"
  account  = each.key
}
