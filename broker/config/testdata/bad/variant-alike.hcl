template "vm" {
  module = "../modules/local"
  variant "spot" {
    variables = { size = "small" }
  }
  variant "default" {}
}

pool "a" {
  extends   = "vm"
  variables = { size = "small" }
}
