variable "broker" {}

variable "zone" {
  default = "a"
}

output "ipaddr" {
  value = "127.0.0.1"
}

output "image_id" {
  value = "image-of-${var.zone}"
}
