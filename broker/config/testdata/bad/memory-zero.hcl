terraform {
  memory_per_run = "0MiB"
}

pool "a" {
  module = "../modules/local"
}
