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

# The hypervisor

variable "uri" {
  description = "The hypervisor: a libvirt connection URI, such as \"qemu:///system\" or \"qemu+ssh://broker@hv1.example.org/system\"."
  type        = string
  default     = "qemu:///system"

  validation {
    condition     = can(regex("^qemu(\\+(ssh|unix|tls|tcp))?://[^/ ]*/(system|session)([?][^ ]*)?$", var.uri))
    error_message = "uri must be a libvirt URI of QEMU, such as \"qemu:///system\" or \"qemu+ssh://USER@HOST/system\" (transports: ssh, unix, tls, tcp)."
  }
}

variable "virsh_uri" {
  description = "The same hypervisor for virsh, where that takes other parameters than the provider. Null: as uri, by libssh where that has knownhosts."
  type        = string
  default     = null

  validation {
    condition     = var.virsh_uri == null || can(regex("^qemu(\\+[a-z0-9]+)?://[^/ ]*/(system|session)([?][^ ]*)?$", var.virsh_uri))
    error_message = "virsh_uri must be a libvirt URI of QEMU, or null."
  }
}

variable "storage_pool" {
  description = "The storage pool of the hypervisor for the node's disk and its cloud-init volume."
  type        = string
  default     = "default"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.][A-Za-z0-9_.-]*$", var.storage_pool))
    error_message = "storage_pool must be the name of a libvirt storage pool: letters, digits, \"_\", \".\" and \"-\"."
  }
}

# The machine

variable "arch" {
  description = "The architecture: \"x86_64\", \"aarch64\" or \"ppc64le\"."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "aarch64", "ppc64le"], var.arch)
    error_message = "arch must be \"x86_64\", \"aarch64\" or \"ppc64le\"."
  }
}

variable "memory" {
  description = "Memory in MiB."
  type        = number
  default     = 2048

  validation {
    condition     = var.memory >= 64 && floor(var.memory) == var.memory
    error_message = "memory is in MiB: a whole number, at least 64."
  }
}

variable "vcpus" {
  description = "Virtual CPUs."
  type        = number
  default     = 2

  validation {
    condition     = var.vcpus >= 1 && var.vcpus <= 512 && floor(var.vcpus) == var.vcpus
    error_message = "vcpus must be a whole number from 1 to 512."
  }
}

variable "accelerator" {
  description = "\"kvm\": hardware virtualisation. \"tcg\": emulation, slow, any architecture on any hypervisor. \"auto\": KVM where the hypervisor has it for arch, asked at each create, else TCG."
  type        = string
  default     = "auto"

  validation {
    condition     = contains(["auto", "kvm", "tcg"], var.accelerator)
    error_message = "accelerator must be \"auto\", \"kvm\" or \"tcg\"."
  }
}

variable "machine" {
  description = "QEMU's machine type. Null: \"q35\" for x86_64, \"virt\" for aarch64, \"pseries\" for ppc64le."
  type        = string
  default     = null

  validation {
    condition     = var.machine == null || can(regex("^[a-z0-9][a-z0-9._-]*$", var.machine))
    error_message = "machine must be a machine type of QEMU, such as \"q35\", or null."
  }
}

variable "cpu_mode" {
  description = "libvirt's CPU mode: \"host-passthrough\", \"host-model\" or \"maximum\". Null: \"host-passthrough\" with KVM; with TCG \"maximum\", but QEMU's default on ppc64le."
  type        = string
  default     = null

  validation {
    condition     = var.cpu_mode == null || try(contains(["host-passthrough", "host-model", "maximum"], var.cpu_mode), false)
    error_message = "cpu_mode must be \"host-passthrough\", \"host-model\" or \"maximum\", or null."
  }
}

variable "firmware" {
  description = "\"bios\" or \"uefi\", for x86_64 only: aarch64 always has UEFI, ppc64le SLOF. UEFI must be installed on the hypervisor (edk2-ovmf, edk2-aarch64)."
  type        = string
  default     = "bios"

  validation {
    condition     = contains(["bios", "uefi"], var.firmware)
    error_message = "firmware must be \"bios\" or \"uefi\"."
  }
}

variable "vof" {
  description = "ppc64le with a kernel of one's own: under TCG QEMU's small built-in firmware takes the place of SLOF, which needs about 12 s to start there."
  type        = bool
  default     = false
}

# What it boots

variable "base_volume" {
  description = "The name of a volume on the hypervisor that has the system: each node gets a copy-on-write overlay of it. It is never changed or removed."
  type        = string
  default     = null

  validation {
    condition     = var.base_volume == null || can(regex("^[A-Za-z0-9_.][A-Za-z0-9_.+-]*$", var.base_volume))
    error_message = "base_volume must be the name of a volume: letters, digits, \"_\", \".\", \"+\" and \"-\"."
  }
}

variable "base_volume_pool" {
  description = "The storage pool of the base volume. Null: as storage_pool."
  type        = string
  default     = null

  validation {
    condition     = var.base_volume_pool == null || can(regex("^[A-Za-z0-9_.][A-Za-z0-9_.-]*$", var.base_volume_pool))
    error_message = "base_volume_pool must be the name of a libvirt storage pool, or null."
  }
}

variable "image_url" {
  description = "A cloud image (qcow2 or raw) to make the base volume of: an https or http address, or a path on the broker's machine. It needs image_sha256. The first node that wants it uploads it; it stays for the next ones."
  type        = string
  default     = null

  validation {
    condition     = var.image_url == null || can(regex("^(https?://|/)[^ '\"\\\\]+$", var.image_url))
    error_message = "image_url must be an address that begins with https:// or http://, or an absolute path."
  }
}

variable "image_sha256" {
  description = "The SHA-256 checksum of the file that image_url names: 64 hex digits. The base volume's name has it, so that another image makes another volume."
  type        = string
  default     = null

  validation {
    condition     = var.image_sha256 == null || can(regex("^[0-9a-f]{64}$", var.image_sha256))
    error_message = "image_sha256 must be 64 lower-case hex digits: distributions publish it beside their images."
  }
}

variable "disk_size" {
  description = "The size of the node's disk in GiB, at least that of the base volume. Null: as the base volume. Without a base volume: an empty disk of this size, or none."
  type        = number
  default     = null

  validation {
    condition     = var.disk_size == null || try(var.disk_size >= 1 && var.disk_size <= 65536 && floor(var.disk_size) == var.disk_size, false)
    error_message = "disk_size is in GiB: a whole number from 1 to 65536, or null."
  }
}

variable "kernel" {
  description = "A kernel to boot directly: a path on the hypervisor."
  type        = string
  default     = null

  validation {
    condition     = var.kernel == null || can(regex("^/[^'\"<>&\n]+$", var.kernel))
    error_message = "kernel must be an absolute path on the hypervisor."
  }
}

variable "initrd" {
  description = "The initial RAM disk for kernel: a path on the hypervisor."
  type        = string
  default     = null

  validation {
    condition     = var.initrd == null || can(regex("^/[^'\"<>&\n]+$", var.initrd))
    error_message = "initrd must be an absolute path on the hypervisor."
  }
}

variable "cmdline" {
  description = "The command line for kernel."
  type        = string
  default     = null

  validation {
    condition     = var.cmdline == null || can(regex("^[^\n]+$", var.cmdline))
    error_message = "cmdline must be one line."
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

variable "ssh_user" {
  description = "Who logs in on the node: \"root\", the image's default user, or one that is made with sudo."
  type        = string
  default     = "root"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,31}$", var.ssh_user))
    error_message = "ssh_user must be a user name of Linux: lower-case letters, digits, \"_\" and \"-\", at most 32."
  }
}

variable "tags" {
  description = "More tags, for the metadata of the domain."
  type        = map(string)
  default     = {}
}

# The network

variable "network_mode" {
  description = "\"network\": a libvirt network that gives addresses (NAT, routed, isolated). \"bridge\": a bridge of the hypervisor. \"user\": no network of the hypervisor's: QEMU forwards a port to the node's SSH server."
  type        = string
  default     = "network"

  validation {
    condition     = contains(["network", "bridge", "user"], var.network_mode)
    error_message = "network_mode must be \"network\", \"bridge\" or \"user\"."
  }
}

variable "network_name" {
  description = "The libvirt network, for network_mode = \"network\"."
  type        = string
  default     = "default"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.][A-Za-z0-9_.-]*$", var.network_name))
    error_message = "network_name must be the name of a libvirt network."
  }
}

variable "network_bridge" {
  description = "The bridge on the hypervisor, for network_mode = \"bridge\"."
  type        = string
  default     = null

  validation {
    condition     = var.network_bridge == null || can(regex("^[A-Za-z0-9_.-]{1,15}$", var.network_bridge))
    error_message = "network_bridge must be the name of a network interface, at most 15 characters."
  }
}

variable "network_address" {
  description = "How the node's address is found. \"lease\": from the DHCP leases of the libvirt network. \"agent\": from the QEMU guest agent, which the image must have. \"name\": it is the host name with network_domain, and DNS knows it. Null: \"lease\" on a libvirt network, \"agent\" on a bridge."
  type        = string
  default     = null

  validation {
    condition     = var.network_address == null || try(contains(["lease", "agent", "name"], var.network_address), false)
    error_message = "network_address must be \"lease\", \"agent\" or \"name\", or null."
  }
}

variable "network_domain" {
  description = "The DNS domain of the nodes, for network_address = \"name\"; it is also part of their host names."
  type        = string
  default     = null

  validation {
    condition     = var.network_domain == null || can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", var.network_domain))
    error_message = "network_domain must be a DNS domain such as \"ci.example.org\", or null."
  }
}

variable "network_forward_address" {
  description = "For network_mode = \"user\": the hypervisor's address to forward a port of. Null, for a hypervisor on the broker's machine: an address of 127.64.0.0/10 that is the node's own."
  type        = string
  default     = null

  validation {
    condition     = var.network_forward_address == null || can(cidrhost("${var.network_forward_address}/32", 0))
    error_message = "network_forward_address must be an IPv4 address of the hypervisor, or null."
  }
}

variable "network_forward_ports" {
  description = "For network_mode = \"user\": from which ports, first to last, the node gets one. With an address of its own it gets the first."
  type        = object({ first = number, last = number })
  default     = { first = 20000, last = 29999 }

  validation {
    condition = (
      var.network_forward_ports.first >= 1 && var.network_forward_ports.last <= 65535 &&
      var.network_forward_ports.first <= var.network_forward_ports.last &&
      floor(var.network_forward_ports.first) == var.network_forward_ports.first &&
      floor(var.network_forward_ports.last) == var.network_forward_ports.last
    )
    error_message = "network_forward_ports must be whole numbers from 1 to 65535, first not above last."
  }
}

variable "network_isolated" {
  description = "For network_mode = \"user\": nodes reach nothing outside, not even the hypervisor."
  type        = bool
  default     = false
}
