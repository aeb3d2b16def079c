pool "a" {
  description = "ÿþ"
  module = "../modules/local"
}
