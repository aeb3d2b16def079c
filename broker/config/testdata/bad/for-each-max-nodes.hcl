pool "a" {
  for_each   = { a = 3, b = 5 }
  module     = "../modules/local"
  fill_level = each.value
  max_nodes  = 4
}
