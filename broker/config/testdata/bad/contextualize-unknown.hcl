pool "a" {
  module        = "../modules/local"
  contextualize = "winrm"
}
