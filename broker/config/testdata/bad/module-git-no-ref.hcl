pool "a" {
  module = "git::https://git.example.org/modules.git//vm"
}
