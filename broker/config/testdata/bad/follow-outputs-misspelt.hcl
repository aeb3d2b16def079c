pool "a" {
  module = "../modules/local"

  follow {
    output = ["image_id"]
  }
}
