pool "a" {
  module = "../modules/local"
  labels = ["team-a"]
}
