account "cloud" {
  rate_limit = "6/h"
  burst      = 1
}

pool "a" {
  module     = "../../modules/node"
  fill_level = 3
  max_nodes  = 6
  account = "cloud"
  variables = { image = "y" }
}
