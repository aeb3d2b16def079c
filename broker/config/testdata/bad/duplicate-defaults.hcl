defaults {
  fill_level = 1
}

defaults {
  max_nodes = 4
}

pool "a" {
  module = "../modules/local"
}
