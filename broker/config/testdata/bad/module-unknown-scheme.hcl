pool "a" {
  module = "ssh://git@git.example.org/modules.git?ref=v1.2.3"
}
