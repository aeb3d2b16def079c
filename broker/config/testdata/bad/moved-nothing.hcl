pool "c" {
  module = "../modules/local"
}
moved {
}
