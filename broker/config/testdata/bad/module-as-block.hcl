pool "a" {
  module {
    source = "../modules/local"
  }
}
