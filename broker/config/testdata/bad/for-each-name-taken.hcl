pool "a-small" {
  module = "../modules/local"
}
pool "a" {
  for_each = toset(["large", "small"])
  module   = "../modules/local"
}
