reload {
  confirm_above = 50
}
pool "a" {
  module = "../modules/local"
}
