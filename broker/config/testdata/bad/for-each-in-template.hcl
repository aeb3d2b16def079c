template "t" {
  for_each = toset(["x"])
}
pool "a" {
  module = "../modules/local"
}
