pool "a" {
  module = "../modules/local"
  schedule "work" {
    duration   = "10h"
    fill_level = 1
  }
}
