pool "a" {
  module = "../modules/local"
  credentials = { TOKEN = "file:secret" }
}
