policy {
  deny "too-large" {
    condition = new != null && new.max_nodes > 20
  }
}

pool "a" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
