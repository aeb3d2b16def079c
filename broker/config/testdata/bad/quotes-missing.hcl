pool "a" {
  module        = "../modules/local"
  contextualize = ssh
}
