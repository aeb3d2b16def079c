pool "a" {
  module = "svn::https://svn.example.org/vm"
}
