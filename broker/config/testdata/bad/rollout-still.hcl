template "t" {
  module = "../modules/local"

  rollout {
    max_surge       = 0
    max_unavailable = 0
  }
}

pool "a" {
  extends = "t"
}
