defaults {
  module = "modules/local"
  sweep {
    interval     = "1h"
    max_destroys = 2
  }
}

pool "inherits" {}

pool "off" {
  sweep {
    interval = "0s"
  }
}

pool "often" {
  sweep {
    interval = "10s"
  }
}
