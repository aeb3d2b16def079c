defaults {
  max_nodes = 2
}

pool "a" {
  module     = "../modules/local"
  fill_level = 5
}
