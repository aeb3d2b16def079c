account "cloud" {
  rate_limit = "30/m"
  burst      = 5
}

pool "a" {
  module     = "../../modules/node"
  fill_level = 3
  max_nodes  = 6
  account = "cloud"
  variables = { image = "x" }
}
