defaults {
  ready {
    command = "true"
  }
}

pool "a" {
  module        = "../modules/local"
  contextualize = "none"
}
