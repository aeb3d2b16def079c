pool "a" {
  module = "git::https://git.example.org/modules.git?ref=0123abcd"
}
