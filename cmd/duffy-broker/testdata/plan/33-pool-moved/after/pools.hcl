moved {
  from = "old"
  to   = "new"
}

pool "new" {
  module     = "../../modules/node"
  fill_level = 3
  max_nodes  = 4
}
