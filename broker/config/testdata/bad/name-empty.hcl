pool "" {
  module = "../modules/local"
}
