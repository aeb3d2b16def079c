tenant_defaults {
  session_livetime = "1h"
}

pool "a" {
  module = "../modules/local"
}
