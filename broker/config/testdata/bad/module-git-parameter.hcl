pool "a" {
  module = "git::https://git.example.org/modules.git?ref=v1.2.3&depth=1"
}
