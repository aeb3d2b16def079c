terraform {
  memory_per_run = "64Mi"
}

pool "a" {
  module = "../modules/local"
}
