policy {
  deny "large" {
    condition = new.fill_level > 3
  }
  warn "large" {
    condition = new.fill_level > 2
  }
}
pool "a" {
  module = "../modules/local"
}
