variable "broker" {
  description = "What the broker says about the node: see the module contract."
  type = object({
    id              = string
    node_id         = string
    pool            = string
    hostname        = string
    tags            = map(string)
    ssh_public_keys = list(string)
    url             = optional(string)
    token           = optional(string)
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

# Where and as whom

variable "region" {
  description = "The region. null: what AWS_REGION or the profile says."
  type        = string
  default     = null
}

variable "profile" {
  description = "A profile of the AWS configuration files. null: what AWS_PROFILE says, if anything."
  type        = string
  default     = null
}

variable "assume_role" {
  description = "A role to take on. null: none but what the environment or the profile says."
  type = object({
    role_arn     = string
    external_id  = optional(string)
    session_name = optional(string)
  })
  default = null

  validation {
    condition     = var.assume_role == null || can(regex("^arn:[^:]+:iam::[0-9]{12}:role/.+", var.assume_role.role_arn))
    error_message = "assume_role.role_arn must be the ARN of a role, such as \"arn:aws:iam::123456789012:role/duffy-broker\"."
  }
}

variable "endpoints" {
  description = "Other addresses of the services, by the names ec2, sts and resourcegroupstaggingapi: for VPC endpoints and for clouds that speak EC2."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.endpoints), ["ec2", "sts", "resourcegroupstaggingapi"])) == 0
    error_message = "endpoints has a name that is none of ec2, sts and resourcegroupstaggingapi."
  }
  validation {
    condition     = alltrue([for url in values(var.endpoints) : can(regex("^https?://", url))])
    error_message = "endpoints must be URLs, such as \"https://ec2.example.com\"."
  }
}

variable "tags" {
  description = "More tags for the instance, its volumes, interfaces and the rest. The broker's own win."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && !startswith(key, "duffy:")])
    error_message = "tags must not begin with \"aws:\", which EC2 keeps for itself, nor with \"duffy:\", which are the broker's."
  }
  validation {
    condition     = alltrue([for key, value in var.tags : length(key) >= 1 && length(key) <= 128 && length(value) <= 256])
    error_message = "tags: EC2 takes keys of 1 to 128 characters, and values of at most 256."
  }
  validation {
    condition     = length(var.tags) <= 40
    error_message = "tags has more than 40 entries: EC2 allows 50 on a resource, and some are the broker's."
  }
}

# What kind of machine

variable "arch" {
  description = "The architecture: \"x86_64\" or \"aarch64\"."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "aarch64"], var.arch)
    error_message = "arch must be \"x86_64\" or \"aarch64\": EC2 has no others."
  }
}

variable "instance_type" {
  description = "The instance type, such as \"c5.large\" or \"c5n.metal\". It must be of the architecture."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type must look like \"c5.large\" or \"c5n.metal\"."
  }
}

variable "market" {
  description = "\"on-demand\", or \"spot\": cheaper, and EC2 may take the machine away at two minutes' notice."
  type        = string
  default     = "on-demand"

  validation {
    condition     = contains(["on-demand", "spot"], var.market)
    error_message = "market must be \"on-demand\" or \"spot\"."
  }
}

variable "spot_max_price" {
  description = "The most that a spot instance may cost an hour, in US dollars. null: the price on demand."
  type        = number
  default     = null

  validation {
    condition     = var.spot_max_price == null || try(var.spot_max_price > 0, false)
    error_message = "spot_max_price must be above 0, or null for the price on demand."
  }
}

variable "cpu_credits" {
  description = "Of burstable types (t3 and the like): \"standard\" slows down, \"unlimited\" costs more, when the CPU is busy for long. null: the account's default."
  type        = string
  default     = null

  validation {
    condition     = var.cpu_credits == null || try(contains(["standard", "unlimited"], var.cpu_credits), false)
    error_message = "cpu_credits must be \"standard\" or \"unlimited\"."
  }
}

variable "instance_profile" {
  description = "The name of an IAM instance profile. Whoever has the node has what the profile allows. null: none."
  type        = string
  default     = null

  validation {
    condition     = var.instance_profile == null || try(can(regex("^[A-Za-z0-9+=,.@_-]{1,128}$", var.instance_profile)), false)
    error_message = "instance_profile must be a name, not an ARN."
  }
}

# What is on it

variable "image_id" {
  description = "The AMI by its id. null: image_owner and image_name find it. One of another account (not yours, Amazon's or of the marketplace) needs image_owner, too."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null || try(can(regex("^ami-[0-9a-f]+$", var.image_id)), false)
    error_message = "image_id must look like \"ami-0123456789abcdef0\"."
  }
}

variable "image_owner" {
  description = "Who the AMI must belong to: an account id, \"self\", \"amazon\" or \"aws-marketplace\". Needed with image_name."
  type        = string
  default     = null

  validation {
    condition     = var.image_owner == null || try(can(regex("^([0-9]{12}|self|amazon|aws-marketplace)$", var.image_owner)), false)
    error_message = "image_owner must be an account id of 12 digits, \"self\", \"amazon\" or \"aws-marketplace\"."
  }
}

variable "image_name" {
  description = "The AMI's name, with * and ? as wildcards, such as \"CentOS Stream 9 x86_64*\". The newest one that fits, and is of the architecture, is taken."
  type        = string
  default     = null

  validation {
    condition     = var.image_name == null || try(length(var.image_name) >= 3, false)
    error_message = "image_name must have 3 characters or more."
  }
}

variable "root_volume_size" {
  description = "The size of the root volume in GiB. null: as large as the image's."
  type        = number
  default     = null

  validation {
    condition     = var.root_volume_size == null || try(var.root_volume_size >= 1 && var.root_volume_size <= 65536 && floor(var.root_volume_size) == var.root_volume_size, false)
    error_message = "root_volume_size is in GiB, a whole number from 1 to 65536."
  }
}

variable "root_volume_type" {
  description = "The type of the root volume: \"gp3\", \"gp2\", \"io1\", \"io2\" or \"standard\"."
  type        = string
  default     = "gp3"

  validation {
    condition     = contains(["gp2", "gp3", "io1", "io2", "standard"], var.root_volume_type)
    error_message = "root_volume_type must be one of gp2, gp3, io1, io2, standard: EC2 boots from no other."
  }
}

variable "root_volume_iops" {
  description = "I/O operations a second of the root volume: needed for io1 and io2, possible for gp3. null: the type's own."
  type        = number
  default     = null

  validation {
    condition     = var.root_volume_iops == null || try(var.root_volume_iops >= 100 && floor(var.root_volume_iops) == var.root_volume_iops, false)
    error_message = "root_volume_iops must be a whole number, 100 or more."
  }
}

variable "root_volume_encrypted" {
  description = "Whether the root volume is encrypted. false leaves it to the image and the account's default."
  type        = bool
  default     = true
}

variable "root_volume_kms_key" {
  description = "The ARN of the key that it is encrypted with. null: the account's default key."
  type        = string
  default     = null

  validation {
    condition     = var.root_volume_kms_key == null || try(can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:(key|alias)/.+", var.root_volume_kms_key)), false)
    error_message = "root_volume_kms_key must be the ARN of a key, such as \"arn:aws:kms:us-east-1:123456789012:key/0123abcd-...\"."
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

variable "interruption_watcher" {
  description = "Whether spot instances tell the broker when EC2 announces that it takes them away. Needs `serve --node-url` and systemd and curl in the image."
  type        = bool
  default     = true
}

# How it is reached

variable "subnet_id" {
  description = "The subnet. null: the default one of the zone, in the default VPC."
  type        = string
  default     = null

  validation {
    condition     = var.subnet_id == null || try(can(regex("^subnet-[0-9a-f]+$", var.subnet_id)), false)
    error_message = "subnet_id must look like \"subnet-0123456789abcdef0\"."
  }
}

variable "availability_zone" {
  description = "The zone, such as \"us-east-1a\", where no subnet_id is given. null: EC2 chooses."
  type        = string
  default     = null

  validation {
    condition     = var.availability_zone == null || try(can(regex("^[a-z0-9-]+$", var.availability_zone)), false)
    error_message = "availability_zone must be the name of a zone, such as \"us-east-1a\"."
  }
}

variable "security_group_ids" {
  description = "Security groups that exist. Empty: the node gets one of its own, which lets SSH in from ssh_cidr_blocks and everything out."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "security_group_ids must look like \"sg-0123456789abcdef0\": ids, not names."
  }
}

variable "ssh_cidr_blocks" {
  description = "From where the node's own security group lets SSH in: the broker's network and the tenants'. IPv4 and IPv6."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for block in var.ssh_cidr_blocks : can(cidrhost(block, 0))])
    error_message = "ssh_cidr_blocks must be networks such as \"192.0.2.0/24\"."
  }
}

variable "public_ip" {
  description = "Whether the node gets a public address, and is reached there. false: its private one."
  type        = bool
  default     = false
}

variable "ssh_user" {
  description = "Who logs in on the node: \"root\", the image's default user, such as \"ec2-user\", or one that is made with sudo."
  type        = string
  default     = "root"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,31}$", var.ssh_user))
    error_message = "ssh_user must be a user name of Linux: lower-case letters, digits, \"_\" and \"-\", at most 32."
  }
}

variable "ssh_port" {
  description = "The port where the image's sshd listens."
  type        = number
  default     = 22

  validation {
    condition     = var.ssh_port >= 1 && var.ssh_port <= 65535 && floor(var.ssh_port) == var.ssh_port
    error_message = "ssh_port must be a whole number from 1 to 65535."
  }
}
