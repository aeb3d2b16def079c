pool "a" {
  module    = "../modules/local"
  max_nodes = 0
}
