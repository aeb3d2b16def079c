environment {
  allow = ["REGION"]
}
pool "a" {
  module    = "../modules/local"
  variables = { home = env("HOME") }
}
