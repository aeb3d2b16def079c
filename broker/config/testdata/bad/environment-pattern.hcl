environment {
  allow = ["AWS_*"]
}
pool "a" {
  module = "../modules/local"
}
