pool "a" {
  module    = "../modules/local"
  variables = { "instance type" = "small" }
}
