pool "a" {
  module    = "../modules/local"
  variables = { size = filesha256("nowhere.txt") }
}
