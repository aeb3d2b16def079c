pool "a" {
  for_each = toset(["a", "b"])
}
