pool "a" {
  module = "${path.module}/../modules/local"
}
