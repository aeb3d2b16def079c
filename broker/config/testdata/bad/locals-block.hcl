locals {
  size {
    small = 1
  }
}
pool "a" {
  module = "../modules/local"
}
