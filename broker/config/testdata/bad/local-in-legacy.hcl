pool "a" {
  module = "../modules/local"
}
legacy {
  map {
    pool = "centos-${local.arch}"
  }
}
