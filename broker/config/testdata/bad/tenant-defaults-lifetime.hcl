tenant_defaults {
  session_lifetime = "13h"
}

pool "a" {
  module = "../modules/local"
}
