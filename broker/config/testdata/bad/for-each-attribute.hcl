pool "a" {
  for_each   = { a = { size = 1 }, b = {} }
  module     = "../modules/local"
  fill_level = each.value.size
}
