pool "a" {
  module        = "../modules/local"
  contextualize = "none"
  max_age       = "20m"
}
