pool "a" {
  for_each   = toset(["a", "b", "c", "d", "e", "f", "1"])
  module     = "../modules/local"
  fill_level = each.key == "1" ? 1 : -1
}
