variable "broker" {
  description = "What the broker says about the node: see the module contract."
  type = object({
    id              = string
    node_id         = string
    pool            = string
    hostname        = string
    tags            = map(string)
    ssh_public_keys = list(string)
    ssh_host_key = optional(object({
      private_key = string
      public_key  = string
    }))
  })

  validation {
    condition     = length(var.broker.ssh_public_keys) > 0
    error_message = "broker.ssh_public_keys is empty: nobody could log in on the node."
  }
}

variable "cloud" {
  description = "An entry of clouds.yaml. null: OS_CLOUD, or the other OS_* variables of the pool's environment."
  type        = string
  default     = null
}

variable "region" {
  description = "The region. null: the one of clouds.yaml or OS_REGION_NAME."
  type        = string
  default     = null
}

variable "arch" {
  description = "The architecture of the image: \"x86_64\", \"aarch64\" or \"ppc64le\"."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "aarch64", "ppc64le"], var.arch)
    error_message = "arch must be \"x86_64\", \"aarch64\" or \"ppc64le\" (not \"amd64\", \"arm64\" or \"ppc64el\")."
  }
}

variable "image_id" {
  description = "The image by id. Its properties can't be looked at then."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null ? true : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.image_id))
    error_message = "image_id must be the UUID of an image: image_name takes a name."
  }
}

variable "image_name" {
  description = "The image by name; of several that have it the most recent one."
  type        = string
  default     = null

  validation {
    condition     = var.image_name == null ? true : length(trimspace(var.image_name)) > 0
    error_message = "image_name must not be empty: leave it out to choose the image by other means."
  }
}

variable "image_name_regex" {
  description = "The most recent image whose name matches a regular expression (RE2), such as \"^CentOS-Stream-9-ppc64le-[0-9]+$\"."
  type        = string
  default     = null

  validation {
    condition     = var.image_name_regex == null ? true : can(regexall(var.image_name_regex, ""))
    error_message = "image_name_regex is not a regular expression (RE2)."
  }
}

variable "image_properties" {
  description = "Properties that the image must have; alone or with image_name or image_name_regex they choose it."
  type        = map(string)
  default     = {}
}

variable "image_owner" {
  description = "The id of the project that the image must belong to. Anybody may be allowed to share images: name the owner where you look for one by name."
  type        = string
  default     = null

  validation {
    condition     = var.image_owner == null ? true : length(trimspace(var.image_owner)) > 0
    error_message = "image_owner must not be empty: leave it out for an image of any project."
  }
}

variable "flavor_name" {
  description = "The flavor by name. Either this or flavor_id."
  type        = string
  default     = null
}

variable "flavor_id" {
  description = "The flavor by id. Either this or flavor_name."
  type        = string
  default     = null
}

variable "root_volume" {
  description = "Boot from a volume of this size in GiB and type (null: the cloud's default), deleted with the server. null: the flavor's own disk."
  type = object({
    size = number
    type = optional(string)
  })
  default = null

  validation {
    condition     = var.root_volume == null ? true : var.root_volume.size >= 1 && floor(var.root_volume.size) == var.root_volume.size
    error_message = "root_volume.size is in GiB: a whole number, 1 or more."
  }
  validation {
    condition     = var.root_volume == null ? true : var.root_volume.type == null ? true : length(trimspace(var.root_volume.type)) > 0
    error_message = "root_volume.type must not be empty: leave it out for the cloud's default."
  }
}

variable "network_name" {
  description = "The network by name. Either this or network_id."
  type        = string
  default     = null
}

variable "network_id" {
  description = "The network by id. Either this or network_name."
  type        = string
  default     = null

  validation {
    condition     = var.network_id == null ? true : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.network_id))
    error_message = "network_id must be the UUID of a network: network_name takes a name."
  }
}

variable "subnet_id" {
  description = "The subnet of that network from which the address comes. null: any."
  type        = string
  default     = null

  validation {
    condition     = var.subnet_id == null ? true : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.subnet_id))
    error_message = "subnet_id must be the UUID of a subnet."
  }
}

variable "port_security" {
  description = "false for networks without port security: no security group applies then."
  type        = bool
  default     = true
}

variable "security_groups" {
  description = "Existing security groups, by name or id. Without any the node gets a group of its own: see ingress."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for g in var.security_groups : length(trimspace(g)) > 0])
    error_message = "security_groups has an empty name."
  }
}

variable "ingress" {
  description = "What the security group of its own lets in; all goes out. Ports are left out for all of a protocol, the protocol (\"tcp\", \"udp\", \"icmp\", ...) for all protocols."
  type = list(object({
    protocol = optional(string)
    port_min = optional(number)
    port_max = optional(number)
    cidr     = string
  }))
  default = [
    { protocol = "tcp", port_min = 22, port_max = 22, cidr = "0.0.0.0/0" },
    { protocol = "tcp", port_min = 22, port_max = 22, cidr = "::/0" },
  ]

  validation {
    condition     = alltrue([for r in var.ingress : can(cidrhost(r.cidr, 0))])
    error_message = "ingress has a cidr that is not a network such as \"198.51.100.0/24\" or \"::/0\"."
  }
  validation {
    condition = alltrue([for r in var.ingress :
      (r.port_min == null) == (r.port_max == null) && coalesce(r.port_min, 0) <= coalesce(r.port_max, 65535) && (r.port_min == null || r.protocol != null)
    ])
    error_message = "ingress must have both port_min and port_max or none of them, port_min not above port_max, and a protocol where it has ports."
  }
}

variable "floating_ip_pool" {
  description = "The name of the external network that a floating IP comes from. null: none, tenants use the port's address."
  type        = string
  default     = null

  validation {
    condition     = var.floating_ip_pool == null ? true : length(trimspace(var.floating_ip_pool)) > 0
    error_message = "floating_ip_pool must not be empty: leave it out for no floating IP."
  }
}

variable "availability_zone" {
  description = "The availability zone. null: the cloud chooses."
  type        = string
  default     = null

  validation {
    condition     = var.availability_zone == null ? true : can(regex("^[^\\s:]+$", var.availability_zone))
    error_message = "availability_zone must be the name of a zone: a host (\"zone:host\") is for administrators."
  }
}

variable "server_group_id" {
  description = "An existing server group, such as one with the policy soft-anti-affinity. null: none."
  type        = string
  default     = null

  validation {
    condition     = var.server_group_id == null ? true : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.server_group_id))
    error_message = "server_group_id must be the UUID of a server group."
  }
}

variable "config_drive" {
  description = "Give the server its user data and network on a config drive. false: it must have the metadata service and DHCP."
  type        = bool
  default     = true
}

variable "ssh_user" {
  description = "Who logs in on the node: \"root\", the image's default user, or one that is made with sudo."
  type        = string
  default     = "root"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,31}$", var.ssh_user))
    error_message = "ssh_user must be a user name of Linux: lower-case letters, digits, \"_\" and \"-\", at most 32."
  }
}

variable "user_data" {
  description = "User data of your own: a #cloud-config, a script, or another kind that cloud-init takes, or a MIME multipart. It comes after the module's: lists are joined, and what the module has set stays."
  type        = string
  default     = null

  validation {
    condition     = var.user_data == null ? true : anytrue([for start in ["#cloud-config\n", "#cloud-config\r", "#cloud-config-", "#!", "#cloud-boothook", "#include", "#part-handler", "## template:", "Content-Type: multipart/", "MIME-Version:"] : startswith(var.user_data, start)])
    error_message = "user_data must begin with #cloud-config and a new line, #!, #cloud-boothook, #include, #part-handler, \"## template:\", or the headers of a MIME multipart. Compressed data can't be merged."
  }
}

variable "tags" {
  description = "More metadata of the server, also set as tags (\"key=value\") of all that can carry them."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for k, v in var.tags : can(regex("^[a-zA-Z0-9:_. -]{1,255}$", k)) && length(v) <= 255])
    error_message = "tags: keys have letters, digits, spaces and : _ . -, and keys and values have at most 255 characters."
  }

  validation {
    condition     = length(var.tags) <= 40
    error_message = "tags has more than 40 entries: OpenStack allows 50 tags on a resource, and some are the broker's."
  }
}
