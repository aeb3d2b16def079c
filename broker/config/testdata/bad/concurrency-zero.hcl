pool "a" {
  module      = "../modules/local"
  concurrency = 0
}
