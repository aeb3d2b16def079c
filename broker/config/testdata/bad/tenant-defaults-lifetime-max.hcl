tenant_defaults {
  session_lifetime_max = "1h"
}

pool "a" {
  module = "../modules/local"
}
