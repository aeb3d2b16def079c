pool {
  module = "../modules/local"
}
