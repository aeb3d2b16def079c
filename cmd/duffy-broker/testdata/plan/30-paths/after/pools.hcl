pool "a" {
  module     = "../../modules/node"
  fill_level = 1
  max_nodes  = 2
  variables = { image = "${path.root}/image.qcow2" }
  description = "The same, wherever the file lies"
}
