pool "a" {
  module = "github.com/example/modules//vm"
}
