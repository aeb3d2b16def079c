fill_level = 2

defaults {
  concurrency = 2
}

locals {
  more = local.size
}

template "u" {
  extends = "t"
}

pool "same" {
  module = "../modules/nowhere"
}
