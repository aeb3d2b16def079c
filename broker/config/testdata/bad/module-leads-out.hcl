pool "a" {
  module = "git::https://git.example.org/modules.git//../vm?ref=v1.2.3"
}
