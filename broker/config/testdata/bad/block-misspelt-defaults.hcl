default {
  module = "../modules/local"
}

pool "a" {}

pool "b" {}
