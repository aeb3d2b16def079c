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
    url             = optional(string)
    token           = optional(string)
    ssh_host_key = optional(object({
      private_key = string
      public_key  = string
    }))
    host = optional(object({
      name       = string
      hostname   = string
      ipaddr     = string
      mac        = optional(string)
      bmc        = optional(object({ address = string, kind = string }))
      attributes = map(string)
    }))
  })

  validation {
    condition     = length(var.broker.ssh_public_keys) > 0
    error_message = "broker.ssh_public_keys is empty: nobody could log in on the node."
  }
  validation {
    condition     = var.broker.host != null
    error_message = "The pool draws from no inventory: set inventory = \"NAME\" in the pool, so that each node gets a machine."
  }
  validation {
    condition     = var.broker.host == null ? true : var.broker.host.bmc != null
    error_message = "The machine has no management controller: give its host in the inventory bmc = { address = \"...\", kind = \"redfish\" } (or \"ipmi\")."
  }
}

# Booting

variable "boot" {
  description = "What the machine boots from, once: \"pxe\", \"http\" (UEFI HTTP boot), \"virtual_media\" (an ISO image) or \"disk\" (what is installed already). IPMI can do \"pxe\" and \"disk\"."
  type        = string
  default     = "pxe"

  validation {
    condition     = contains(["pxe", "http", "virtual_media", "disk"], var.boot)
    error_message = "boot must be \"pxe\", \"http\", \"virtual_media\" or \"disk\"."
  }
}

variable "boot_url" {
  description = "For \"http\": what the firmware loads, such as an iPXE for UEFI. For \"virtual_media\": the ISO image. {boot} stands for where the broker serves the node's files."
  type        = string
  default     = null

  validation {
    condition     = var.boot_url == null || can(regex("^(https?://|nfs://|\\{boot\\}/)[^\\s]+$", var.boot_url))
    error_message = "boot_url must be an http, https or nfs URL without spaces, or begin with {boot}/."
  }
}

variable "firmware" {
  description = "The firmware for that boot: \"uefi\" or \"bios\". Null: as the machine is set up."
  type        = string
  default     = null

  validation {
    condition     = var.firmware == null || contains(["uefi", "bios"], coalesce(var.firmware, "-"))
    error_message = "firmware must be \"uefi\", \"bios\" or null."
  }
}

variable "wait_for" {
  description = "When the machine is done: \"call_home\", \"ssh\" (something speaks SSH at its address) or \"none\"."
  type        = string
  default     = "call_home"

  validation {
    condition     = contains(["call_home", "ssh", "none"], var.wait_for)
    error_message = "wait_for must be \"call_home\", \"ssh\" or \"none\"."
  }
}

variable "boot_timeout" {
  description = "How long that may take. The pool's create_timeout must be longer."
  type        = string
  default     = "60m"

  validation {
    condition     = can(regex("^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$", var.boot_timeout))
    error_message = "boot_timeout must be a length of time, such as \"90s\", \"45m\" or \"1h30m\"."
  }
}

# What is installed

variable "installer" {
  description = "What the machine boots with: \"kickstart\" (Fedora, CentOS, RHEL), \"preseed\" (Debian, Ubuntu's old installer), \"cloud-init\" (a live image that reads NoCloud) or \"none\" (files alone)."
  type        = string
  default     = "kickstart"

  validation {
    condition     = contains(["kickstart", "preseed", "cloud-init", "none"], var.installer)
    error_message = "installer must be \"kickstart\", \"preseed\", \"cloud-init\" or \"none\"."
  }
}

variable "arch" {
  description = "The architecture: \"x86_64\", \"aarch64\" or \"ppc64le\". Tenants are told. A host may have another one in its attribute arch, by which machines are chosen."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "aarch64", "ppc64le"], var.arch)
    error_message = "arch must be \"x86_64\", \"aarch64\" or \"ppc64le\"."
  }
}

variable "kernel" {
  description = "URL of the kernel that iPXE loads."
  type        = string
  default     = null

  validation {
    condition     = var.kernel == null || can(regex("^(https?|tftp)://\\S+$", var.kernel))
    error_message = "kernel must be an http, https or tftp URL."
  }
}

variable "initrd" {
  description = "URLs of the initial RAM disks that iPXE loads."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for url in var.initrd : can(regex("^(https?|tftp)://\\S+$", url))])
    error_message = "initrd must be a list of http, https or tftp URLs."
  }
}

variable "kernel_args" {
  description = "More arguments for the kernel, such as \"console=ttyS1,115200\"; installed systems get them too. {boot} as in boot_url."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arg in var.kernel_args : can(regex("^[^\\s\"'`$\\\\]+$", arg))])
    error_message = "kernel_args must be a list of arguments without spaces, quotes, dollar signs and backslashes."
  }
}

variable "source_url" {
  description = "Where packages come from. kickstart: the installation tree (inst.repo). preseed: the mirror, such as \"http://deb.debian.org/debian\"."
  type        = string
  default     = null

  validation {
    condition     = var.source_url == null || can(regex("^https?://[^/\\s\"]+(/[^\\s\"]*)?$", var.source_url))
    error_message = "source_url must be an http or https URL."
  }
}

variable "suite" {
  description = "preseed: the release, such as \"bookworm\"."
  type        = string
  default     = "stable"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*$", var.suite))
    error_message = "suite must be the name of a release, such as \"bookworm\"."
  }
}

variable "disk" {
  description = "The disk that is erased and installed to, such as \"/dev/sda\" or \"/dev/disk/by-path/...\". Null: kickstart takes all disks, preseed the first. A host may have another one in its attribute disk."
  type        = string
  default     = null

  validation {
    condition     = var.disk == null || can(regex("^/dev/[A-Za-z0-9/_.:+-]+$", var.disk))
    error_message = "disk must be a path such as \"/dev/sda\", or null."
  }
}

variable "packages" {
  description = "More packages to install; with kickstart also groups, such as \"@development\"."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.packages : can(regex("^[@A-Za-z0-9][A-Za-z0-9@^_.:+-]*$", name))])
    error_message = "packages must be names of packages."
  }
}

variable "installer_extra" {
  description = "Text that is added at the end of the kickstart or preseed file."
  type        = string
  default     = ""
}

variable "user_data" {
  description = "User data of your own: a #cloud-config, a script, or another kind that cloud-init takes, or a MIME multipart. It comes after the module's: lists are joined, and what the module has set stays. {boot} as in boot_url. For installer = \"cloud-init\"."
  type        = string
  default     = null

  validation {
    condition     = var.user_data == null ? true : anytrue([for start in ["#cloud-config\n", "#cloud-config\r", "#cloud-config-", "#!", "#cloud-boothook", "#include", "#part-handler", "## template:", "Content-Type: multipart/", "MIME-Version:"] : startswith(var.user_data, start)])
    error_message = "user_data must begin with #cloud-config and a new line, #!, #cloud-boothook, #include, #part-handler, \"## template:\", or the headers of a MIME multipart. Compressed data can't be merged."
  }
}

variable "files" {
  description = "More files for the machine to boot with, by name: they are served beside those of the module, and replace one of the same name. {boot} as in boot_url, {hostname}, {keys} (authorized_keys lines)."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.files) : can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", name))])
    error_message = "The names of files must be paths such as \"ks.cfg\" or \"grub/grub.cfg\", of letters, digits, \"_\", \".\" and \"-\"."
  }
}

# Logging in

variable "ssh_user" {
  description = "Who logs in on the node: \"root\", the image's default user, or one that is made with sudo."
  type        = string
  default     = "root"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,31}$", var.ssh_user))
    error_message = "ssh_user must be a user name of Linux: lower-case letters, digits, \"_\" and \"-\", at most 32."
  }
}

variable "ssh_port" {
  description = "The port of the SSH server."
  type        = number
  default     = 22

  validation {
    condition     = var.ssh_port >= 1 && var.ssh_port <= 65535 && floor(var.ssh_port) == var.ssh_port
    error_message = "ssh_port must be a whole number from 1 to 65535."
  }
}

# The management controller

variable "claim" {
  description = "How machines are claimed: \"asset_tag\", or \"none\" where controllers keep no asset tag and no other broker has the machines. A host may have another one in its attribute claim."
  type        = string
  default     = "asset_tag"

  validation {
    condition     = contains(["asset_tag", "none"], var.claim)
    error_message = "claim must be \"asset_tag\" or \"none\"."
  }
}

variable "bmc_insecure" {
  description = "Redfish: don't verify the certificates of controllers. Only for a network that nobody else is on."
  type        = bool
  default     = false
}

variable "bmc_ca" {
  description = "Redfish: certificates, in PEM, that those of controllers are signed with. Null: those that the broker's machine trusts."
  type        = string
  default     = null

  validation {
    condition     = var.bmc_ca == null || can(regex("-----BEGIN CERTIFICATE-----", var.bmc_ca))
    error_message = "bmc_ca must be certificates in PEM: bmc_ca = file(\"ca.pem\")."
  }
}

# The end

variable "wipe" {
  description = "What a machine that was lent is booted into in the end: something that erases its disks and switches it off. Null: it is only switched off, and erased by the next installation."
  type = object({
    boot     = string
    url      = optional(string)
    firmware = optional(string)
    timeout  = optional(string)
  })
  default = null

  validation {
    condition     = var.wipe == null ? true : contains(["pxe", "http", "virtual_media"], var.wipe.boot)
    error_message = "wipe.boot must be \"pxe\", \"http\" or \"virtual_media\"."
  }
  validation {
    condition     = var.wipe == null ? true : var.wipe.boot != "virtual_media" || var.wipe.url != null
    error_message = "wipe.boot = \"virtual_media\" needs wipe.url, the ISO image."
  }
  validation {
    condition     = var.wipe == null ? true : var.wipe.timeout == null || can(regex("^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$", var.wipe.timeout))
    error_message = "wipe.timeout must be a length of time, such as \"2h\"."
  }

  validation {
    condition     = var.wipe == null ? true : var.wipe.url == null || can(regex("^(https?|nfs)://\\S+$", var.wipe.url))
    error_message = "wipe.url must be an http, https or nfs URL without spaces."
  }

  validation {
    condition     = var.wipe == null ? true : var.wipe.firmware == null || contains(["uefi", "bios"], coalesce(var.wipe.firmware, "-"))
    error_message = "wipe.firmware must be \"uefi\" or \"bios\"."
  }
}
