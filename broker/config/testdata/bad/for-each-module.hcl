pool "a" {
  for_each = toset(["local", "clod"])
  module   = "../modules/${each.key}"
}
