pool "a" {
  for_each   = { small = 3, large = -1, huge = 4 }
  module     = "../modules/local"
  fill_level = each.value
}
