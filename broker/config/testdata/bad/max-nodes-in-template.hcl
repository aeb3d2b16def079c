template "t" {
  module     = "../modules/local"
  max_nodes  = 2
  fill_level = 5
}

pool "a" {
  extends = "t"
}

pool "b" {
  extends = "t"
}
