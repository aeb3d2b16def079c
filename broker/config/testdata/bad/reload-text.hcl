reload {
  confirm_above = "half"
}
pool "a" {
  module = "../modules/local"
}
