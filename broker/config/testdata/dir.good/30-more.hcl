locals {
  zone = "${local.region}-1"
}

pool "c" {
  extends = "base"
}
