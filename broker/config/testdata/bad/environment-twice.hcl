environment {
  allow = ["A"]
}
environment {
  allow = ["B"]
}
pool "a" {
  module = "../modules/local"
}
