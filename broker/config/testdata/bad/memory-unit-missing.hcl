terraform {
  memory_per_run = 64
}

pool "a" {
  module = "../modules/local"
}
