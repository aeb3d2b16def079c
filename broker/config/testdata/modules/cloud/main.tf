variable "broker" {
  type = any
}

variable "size" {
  type    = string
  default = "small"
}
