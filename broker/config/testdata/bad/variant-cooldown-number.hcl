pool "a" {
  module = "../modules/local"
  variant "spot" {
    variables = { size = "small" }
    cooldown  = 600
  }
}
