pool "a" {
  module = "../modules/local"

  follow {
    outputs = ["image_id"]
    every   = "30s"
  }
}
