pool "a" {
  module = "../modules/local"
  variant "spot" {
    variables  = { size = "small" }
    fill_level = 2
  }
}
