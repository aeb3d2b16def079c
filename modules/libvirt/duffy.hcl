# What errors of the provider, of libvirt and of QEMU mean.
errors {
  auth = [
    "unable to authenticate",
    "knownhosts: ",
    "failed to read ssh known hosts",
    "could not configure SSH authentication methods",
    "Host key verification failed",
    "authentication (failed|unavailable)",
    "SSH host key for .* was not accepted",
    "failed to authenticate: ",
    "Permission denied \\(publickey",
  ]
  no_capacity = [
    "[Cc]annot allocate memory",
    "cannot set up guest memory",
    "[Nn]o space left on device",
    "Could not set up host forwarding rule", # the address or port of another node
    "[Nn]etwork .* has no .*addresses? (left|available)",
  ]
  throttled = [
    "has asynchronous jobs running",
    "cannot acquire state change lock",
  ]
  configuration = [
    "Output: configuration: ",
    "can't find storage pool",
    "can't retrieve base volume",
    "be smaller than the backing store",
    "Cannot find machine type",
    "Could not find any guests for architecture",
    "[Cc]an't retrieve network",
    "Network not found",
    "unsupported configuration",
    "Cannot get interface MTU", # no such bridge
    "Cannot access (storage file|kernel|backing)",
    "could not open kernel file",
    "Unable to find any firmware",
  ]
  timeout = ["couldn't retrieve IP address of domain"]
  unreachable = [
    "Output: hypervisor: ",
    "Output: image: ",
    "failed to dial libvirt",
    "failed to connect( to the hypervisor|: )",
    "failed to connect to (remote host|bastion host|libvirt)",
  ]
}
