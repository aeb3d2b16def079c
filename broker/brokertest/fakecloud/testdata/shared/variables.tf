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

variable "region" {
  type    = string
  default = "north"
}

variable "instances" {
  type    = number
  default = 1
}
