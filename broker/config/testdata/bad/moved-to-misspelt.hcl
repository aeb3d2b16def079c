pool "centos-9" {
  module = "../modules/local"
}
moved {
  from = "old"
  to   = "centos9"
}
