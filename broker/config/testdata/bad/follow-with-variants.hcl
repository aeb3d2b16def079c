defaults {
  follow {
    outputs = ["image_id"]
  }
}

pool "a" {
  module = "../modules/local"

  variant "one" {
    variables = { size = "small" }
  }
}
