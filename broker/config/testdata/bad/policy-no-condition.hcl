policy {
  warn "large" {
    message = "too large"
  }
}
pool "a" {
  module = "../modules/local"
}
