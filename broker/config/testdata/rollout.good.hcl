defaults {
  module = "./modules/local"

  rollout {
    max_surge = 3
  }
}

pool "inherits" {}

pool "own" {
  rollout {
    max_unavailable = 2
    pause_after     = 5
    serve_stale     = false
  }
}

pool "dips" {
  rollout {
    max_surge       = null
    max_unavailable = 1
  }
}
