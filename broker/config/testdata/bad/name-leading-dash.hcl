pool "-a" {
  module = "../modules/local"
}
