terraform {
  runs = 4
}

environment {
  allow = ["ZONE", "REGION"]
}

reload {
  confirm_from = 3
}

policy {
  deny "too-large" {
    condition = new != null && new.max_nodes > 200
  }
}

pool "a" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
}
