pools "a" {
  module = "../modules/local"
}
