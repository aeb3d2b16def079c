pool "a" {
  module        = "../modules/local"
  instance_type = "t3.large"
}
