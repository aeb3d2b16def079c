pool "a" {
  module = "git::https://ci:hunter2@git.example.org/modules.git?ref=v1.2.3"
}
