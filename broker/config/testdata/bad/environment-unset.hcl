environment {
  allow = ["DUFFY_TEST_NOWHERE"]
}
pool "a" {
  module    = "../modules/local"
  variables = { region = env("DUFFY_TEST_NOWHERE") }
}
