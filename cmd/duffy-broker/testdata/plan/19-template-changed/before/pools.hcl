template "t" {
  module    = "../../modules/node"
  variables = { image = "stream-9" }
}

pool "a" {
  extends    = "t"
  fill_level = 2
}

pool "b" {
  extends    = "t"
  fill_level = 1
}

pool "c" {
  extends    = "t"
  fill_level = 1
  variables  = { image = "own" }
}
