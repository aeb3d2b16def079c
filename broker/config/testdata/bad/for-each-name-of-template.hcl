template "a-small" {
  module = "../modules/local"
}
pool "a" {
  for_each = toset(["large", "small"])
  extends  = "a-small"
}
