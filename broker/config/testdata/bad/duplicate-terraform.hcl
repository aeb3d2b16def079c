terraform {
  runs = 4
}

terraform {
  required_version = ">= 1.5.0"
}

pool "a" {
  module = "../modules/local"
}
