variable "broker" {}

variable "image" {
  default = "stream-9"
}

variable "size" {
  default = "small"
}

variable "license" {
  default   = ""
  sensitive = true
}

output "ipaddr" {
  value = "127.0.0.1"
}
