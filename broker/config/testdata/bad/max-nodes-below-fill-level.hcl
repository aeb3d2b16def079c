pool "a" {
  module     = "../modules/local"
  fill_level = 5
  max_nodes  = 2
}
