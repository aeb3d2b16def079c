template "t" {
  module = "../modules/local"
}
pool "a" {
  for_each = toset(["t", "x"])
  extends  = each.key
}
