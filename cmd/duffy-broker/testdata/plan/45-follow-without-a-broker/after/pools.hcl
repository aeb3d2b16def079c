pool "a" {
  module        = "../../modules/image"
  fill_level    = 2
  max_nodes     = 4
  contextualize = "none"
  description   = "from images"

  follow {
    outputs = ["image_id"]
    every   = "6h"
  }

  variant "near" {
    variables = { zone = "a" }
  }

  variant "far" {
    variables = { zone = "b" }
  }
}
