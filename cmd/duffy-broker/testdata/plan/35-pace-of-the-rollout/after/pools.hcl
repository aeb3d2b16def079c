pool "a" {
  module     = "../../modules/node"
  fill_level = 6
  max_nodes  = 12
  variables  = { image = "y" }

  rollout {
    max_surge       = 2
    max_unavailable = 1
  }
}
