pool "a" {
  for_each   = toset(["a", "b"])
  module     = "../modules/local"
  fill_level = -1
}
