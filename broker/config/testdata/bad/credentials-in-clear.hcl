pool "a" {
  module = "../modules/local"
  credentials = { TOKEN = "hunter22" }
}
