# The pools of a CI system like that of CentOS: EC2 for x86_64 and aarch64, virtual
# and metal, OpenStack for ppc64le, machines in a rack, and the API of Duffy v2 for
# old jobs. Modules come out of the program, so this file is all there is:
#
#   duffy-broker validate --pools centos-ci.hcl
#   duffy-broker plan --pools centos-ci.hcl --base REV
#   duffy-broker modules test virt-ec2-t2-centos-9s-x86_64 --pools centos-ci.hcl
#
# Put your own ids where it says 0123..., and run the broker with --node-url: the
# machines of the rack boot from there, and spot instances tell it when they go.

terraform {
  required_version = ">= 1.5.0"
}

locals {
  releases = {
    "9s"  = { stream = "9-stream", image = "CentOS Stream 9" }
    "10s" = { stream = "10-stream", image = "CentOS Stream 10" }
  }

  # One pool for each release, kind of instance and architecture.
  ec2 = {
    "virt-ec2-t2-centos-9s-x86_64"    = { release = "9s", type = "t2.medium", arch = "x86_64", fill = 10, max = 40, cost = 0.0464 }
    "virt-ec2-t2-centos-10s-x86_64"   = { release = "10s", type = "t2.medium", arch = "x86_64", fill = 10, max = 40, cost = 0.0464 }
    "virt-ec2-c6g-centos-9s-aarch64"  = { release = "9s", type = "c6g.large", arch = "aarch64", fill = 4, max = 20, cost = 0.068 }
    "virt-ec2-c6g-centos-10s-aarch64" = { release = "10s", type = "c6g.large", arch = "aarch64", fill = 4, max = 20, cost = 0.068 }
  }

  zones = {
    "us-east-1a" = "subnet-0123456789abcdefa"
    "us-east-1b" = "subnet-0123456789abcdefb"
    "us-east-1c" = "subnet-0123456789abcdefc"
  }

  machines = yamldecode(file("seamicro.yaml"))
}

# What one AWS account may be asked, over all pools.
account "aws" {
  rate_limit = "60/m"
  burst      = 10
}

defaults {
  concurrency = 4
  max_age     = "24h" # nothing older is lent

  ready {
    timeout = "5m"
  }

  rollout {
    max_surge   = 2
    pause_after = 2
  }
}

tenant_defaults {
  node_quota           = 10
  session_lifetime     = "6h"
  session_lifetime_max = "12h"
}

# ---- EC2

template "ec2" {
  module         = "builtin:aws-ec2"
  account        = "aws"
  create_timeout = "15m"
  labels         = { provider = "ec2" }

  credentials = {
    AWS_ACCESS_KEY_ID     = "env:DUFFY_AWS_ACCESS_KEY_ID"
    AWS_SECRET_ACCESS_KEY = "env:DUFFY_AWS_SECRET_ACCESS_KEY"
  }

  # A newer AMI of the same name replaces the stock, one node after the other.
  follow {
    outputs = ["image"]
    every   = "6h"
  }

  # Where there is no capacity, the next zone is taken.
  variant "us-east-1a" {
    variables = { subnet_id = local.zones["us-east-1a"] }
  }
  variant "us-east-1b" {
    variables = { subnet_id = local.zones["us-east-1b"] }
  }
  variant "us-east-1c" {
    variables = { subnet_id = local.zones["us-east-1c"] }
  }
}

pool "virt-ec2" {
  for_each    = local.ec2
  name        = each.key
  extends     = "ec2"
  description = "${local.releases[each.value.release].image}, ${each.value.type}"
  fill_level  = each.value.fill
  max_nodes   = each.value.max
  hourly_cost = each.value.cost

  variables = {
    region             = "us-east-1"
    arch               = each.value.arch
    instance_type      = each.value.type
    image_owner        = "125523088429" # the CentOS project
    image_name         = "${local.releases[each.value.release].image} ${each.value.arch}*"
    security_group_ids = ["sg-0123456789abcdef0"]
    root_volume_size   = 30
  }

  # Less at night and at weekends.
  schedule "night" {
    cron       = "0 20 * * *"
    duration   = "10h"
    timezone   = "UTC"
    fill_level = 2
  }
}

pool "metal-ec2-c5n-centos-9s-x86_64" {
  extends         = "ec2"
  description     = "CentOS Stream 9 on metal, for jobs that need KVM"
  fill_level      = 1
  max_nodes       = 3
  hourly_cost     = 3.888
  create_timeout  = "45m"
  destroy_timeout = "90m"

  ready {
    timeout = "30m"
  }

  variables = {
    region             = "us-east-1"
    instance_type      = "c5n.metal"
    image_owner        = "125523088429"
    image_name         = "CentOS Stream 9 x86_64*"
    security_group_ids = ["sg-0123456789abcdef0"]
  }
}

# ---- OpenStack, for ppc64le

pool "virt-openstack-centos-9s-ppc64le" {
  module         = "builtin:openstack"
  description    = "CentOS Stream 9 on POWER"
  fill_level     = 2
  max_nodes      = 8
  create_timeout = "15m"
  labels         = { provider = "openstack" }

  environment = { OS_AUTH_URL = "https://openstack.example.org:5000/v3" }
  credentials = {
    OS_APPLICATION_CREDENTIAL_ID     = "env:DUFFY_OS_CREDENTIAL_ID"
    OS_APPLICATION_CREDENTIAL_SECRET = "env:DUFFY_OS_CREDENTIAL_SECRET"
  }

  variables = {
    arch             = "ppc64le"
    image_name_regex = "^CentOS-Stream-GenericCloud-9-.*ppc64le$"
    image_owner      = "0123456789abcdef0123456789abcdef"
    flavor_name      = "power.medium"
    network_name     = "ci"
  }

  follow {
    outputs = ["image"]
    every   = "6h"
  }
}

# ---- Machines in a rack

inventory "seamicro" {
  hosts = {
    for name, m in local.machines : name => {
      hostname    = "${name}.ci.example.org"
      ipaddr      = m.ipaddr
      mac         = m.mac
      bmc         = { address = m.bmc, kind = "ipmi" }
      attributes  = { arch = "x86_64", chassis = m.chassis }
      credentials = { IPMI_USERNAME = "env:DUFFY_IPMI_USERNAME", IPMI_PASSWORD = "env:DUFFY_IPMI_PASSWORD" }
    }
  }
}

template "metal" {
  module          = "builtin:bare-metal"
  inventory       = { name = "seamicro", where = { arch = "x86_64" } }
  fill_level      = 2
  max_age         = "72h" # an installation takes long
  create_timeout  = "75m"
  destroy_timeout = "30m"
  legacy          = true # pools of an inventory are not, unless they say so
  labels          = { provider = "seamicro" }

  ready {
    timeout = "15m"
  }
}

pool "metal-seamicro" {
  for_each    = local.releases
  name        = "metal-seamicro-small-centos-${each.key}-x86_64"
  extends     = "metal"
  description = "${each.value.image} on a machine of its own"

  variables = {
    installer  = "kickstart"
    kernel     = "http://mirror.stream.centos.org/${each.value.stream}/BaseOS/x86_64/os/images/pxeboot/vmlinuz"
    initrd     = ["http://mirror.stream.centos.org/${each.value.stream}/BaseOS/x86_64/os/images/pxeboot/initrd.img"]
    source_url = "http://mirror.stream.centos.org/${each.value.stream}/BaseOS/x86_64/os"
  }
}

# ---- The API of Duffy v2, for old jobs (docs/legacy.md). ver is "9-stream".

legacy {
  map {
    ver    = "/^(9|10)-stream$/"
    arch   = "x86_64"
    flavor = "/^(tiny|small|medium)$/"
    pool   = "virt-ec2-t2-centos-${replace(ver, "-stream", "s")}-x86_64"
  }
  map {
    ver    = "9-stream"
    arch   = "x86_64"
    flavor = "metal"
    pool   = "metal-ec2-c5n-centos-9s-x86_64"
  }
  map {
    ver  = "/^(9|10)-stream$/"
    arch = "x86_64"
    pool = "metal-seamicro-small-centos-${replace(ver, "-stream", "s")}-x86_64"
  }
  map {
    ver  = "/^(9|10)-stream$/"
    arch = "aarch64"
    pool = "virt-ec2-c6g-centos-${replace(ver, "-stream", "s")}-aarch64"
  }
  map {
    ver  = "9-stream"
    arch = "ppc64le"
    pool = "virt-openstack-centos-9s-ppc64le"
  }
  default_ver    = "9-stream"
  session_limit  = 5
  session_window = "5m"
  kept_nodes     = 5
}

# ---- What a pull request must not do

policy {
  deny "size" {
    condition = new != null && new.max_nodes > 50
    message   = "${new.name} may have ${new.max_nodes} nodes: 50 are the most"
  }
  deny "instance-type" {
    condition = new != null && !contains(["", "t2.medium", "c6g.large", "c5n.metal"], try(new.variables.instance_type, ""))
    message   = "${new.name} takes ${new.variables.instance_type}, which nobody has agreed to"
  }
  deny "in-use" {
    condition = new == null && stock.lent > 0
    message   = "${old.name} has ${stock.lent} lent nodes"
  }
  warn "cost" {
    condition = sum([for p in pools.new : try(p.hourly_cost, 0) * p.fill_level]) > 15
    message   = "stock costs more than 15 dollars an hour"
  }
}
