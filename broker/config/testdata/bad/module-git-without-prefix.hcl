pool "a" {
  module = "https://git.example.org/modules.git?ref=v1.2.3"
}
