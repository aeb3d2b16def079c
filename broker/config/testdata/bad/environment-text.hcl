environment {
  allow = { region = "REGION" }
}
pool "a" {
  module = "../modules/local"
}
