variable "broker" {
  type = object({
    hostname        = string
    tags            = map(string)
    ssh_public_keys = list(string)
  })
}

variable "endpoint" {
  type = string
}

variable "size" {
  type    = string
  default = "small"
}

variable "ssh" {
  type    = bool
  default = false
}
