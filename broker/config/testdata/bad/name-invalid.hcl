pool "a,b" {
  module = "../modules/local"
}
