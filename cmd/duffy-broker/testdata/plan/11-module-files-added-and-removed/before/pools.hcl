pool "a" {
  module     = "./modules/own"
  fill_level = 2
  max_nodes  = 4
}
