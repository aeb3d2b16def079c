fill_level = 1

locals {
  size = local.more
}

defaults {
  concurrency = 0
}

template "t" {
  extends = "u"
}

pool "same" {
  module = "../modules/local"
}
