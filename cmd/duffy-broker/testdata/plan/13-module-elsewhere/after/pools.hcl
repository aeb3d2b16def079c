pool "a" {
  module     = "../../modules/same"
  fill_level = 2
  max_nodes  = 4
}
