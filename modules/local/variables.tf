variable "broker" {
  description = "What the broker says about the node: see the module contract."
  type = object({
    id              = string
    node_id         = string
    pool            = string
    hostname        = string
    tags            = map(string)
    ssh_public_keys = list(string)
    directory       = string
  })

  validation {
    condition     = startswith(var.broker.directory, "/") && !can(regex("['\"\\\\%!\\n]", var.broker.directory))
    error_message = "broker.directory must be an absolute path without quotes, backslashes, percent and exclamation marks."
  }
  validation {
    condition     = length(var.broker.ssh_public_keys) > 0
    error_message = "broker.ssh_public_keys is empty: nobody could log in on the node."
  }
}

variable "size" {
  description = "A label that tenants see in the node's data. All local nodes are as large as the machine."
  type        = string
  default     = "small"

  validation {
    condition     = length(trimspace(var.size)) > 0
    error_message = "size must not be empty: give a word such as \"small\"."
  }
}

variable "boot_delay" {
  description = "Fault: seconds during which the new node refuses connections."
  type        = number
  default     = 0

  validation {
    condition     = var.boot_delay >= 0
    error_message = "boot_delay is in seconds and must be 0 or more."
  }
}

variable "answers" {
  description = "Fault: false makes a node that accepts connections and never says a word."
  type        = bool
  default     = true
}

variable "dies_after" {
  description = "Fault: seconds after which the node dies by itself, counted from when it listens. 0 is never."
  type        = number
  default     = 0

  validation {
    condition     = var.dies_after >= 0
    error_message = "dies_after is in seconds and must be 0 (never) or more."
  }
}

variable "ssh_server" {
  description = "The SSH server: \"openssh\" is the machine's sshd, \"builtin\" the one in duffy-broker, \"auto\" the first of both that works."
  type        = string
  default     = "auto"

  validation {
    condition     = contains(["auto", "openssh", "builtin"], var.ssh_server)
    error_message = "ssh_server must be \"auto\", \"openssh\" or \"builtin\"."
  }
}
