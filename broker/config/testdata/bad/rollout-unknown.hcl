pool "a" {
  module = "../modules/local"

  rollout {
    surge = 2
  }
}
