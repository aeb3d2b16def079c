pool "a" {
  module    = "../modules/local"
  variables = { size = file("nowhere.txt") }
}
