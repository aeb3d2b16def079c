pool "a" {
  module = "../modules/local"

  follow {
    every = "1h"
  }
}
