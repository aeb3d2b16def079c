pool "a" {
  module        = "../modules/local"
  contextualize = "shh"
}
