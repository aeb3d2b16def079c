defaults {
  module = "./modules/local"

  follow {
    outputs = ["image_id", "ami", "image_id"]
    every   = "1m"
  }
}

pool "inherits" {}

pool "own" {
  follow {
    outputs = ["other"]
  }
}

pool "none" {
  follow {
    outputs = []
  }
}
