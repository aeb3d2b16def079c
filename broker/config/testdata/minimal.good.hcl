pool "first" {
  module = "./modules/local"
}
