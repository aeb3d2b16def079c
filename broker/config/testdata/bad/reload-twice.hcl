reload {}
reload {}
pool "a" {
  module = "../modules/local"
}
