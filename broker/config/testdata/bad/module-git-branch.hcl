pool "a" {
  module = "git::ssh://git@git.example.org/modules.git?ref=main"
}
