environment {
  allow = ["REGION"]
}
pool "a" {
  module    = "../modules/local"
  variables = { region = env("REGION", "eu", "us") }
}
