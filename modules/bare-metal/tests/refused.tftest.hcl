# Variables that can't work are refused by the plan, before anything is done to the
# machine.

mock_provider "duffy" {}

variables {
  broker = {
    id              = "6a1d3a30-0000-4000-8000-00000000b001"
    node_id         = "0123456789abcdef"
    pool            = "p"
    hostname        = "node-0123456789abcdef"
    tags            = {}
    ssh_public_keys = ["ssh-ed25519 AAAA broker"]
    directory       = "/nonexistent"
    url             = "http://192.0.2.1:8080"
    token           = "TOKEN"
    host = {
      name       = "n1"
      hostname   = "n1.example.org"
      ipaddr     = "192.0.2.11"
      bmc        = { address = "https://192.0.2.111", kind = "redfish" }
      attributes = {}
    }
  }
  kernel     = "http://192.0.2.1/vmlinuz"
  initrd     = ["http://192.0.2.1/initrd.img"]
  source_url = "http://192.0.2.1/BaseOS"
}

run "no_inventory" {
  command = plan
  variables {
    broker = {
      id = "b", node_id = "n", pool = "p", hostname = "h", tags = {}, ssh_public_keys = [], directory = "/nonexistent"
    }
  }
  expect_failures = [var.broker]
}

run "each_by_itself" {
  command = plan
  variables {
    boot         = "floppy"
    boot_url     = "file:///x"
    firmware     = "coreboot"
    wait_for     = "ever"
    boot_timeout = "soon"
    installer    = "yast"
    arch         = "s390x"
    kernel       = "vmlinuz"
    initrd       = ["initrd"]
    kernel_args  = ["a b"]
    source_url   = "ftp://x/"
    suite        = "Bookworm"
    disk         = "sda"
    packages     = ["a; b"]
    user_data    = "echo hello"
    files        = { "../x" = "" }
    ssh_user     = "Root"
    ssh_port     = 0
    claim        = "sticker"
    bmc_ca       = "ca.pem"
    wipe         = { boot = "disk" }
  }
  expect_failures = [
    var.boot, var.boot_url, var.firmware, var.wait_for, var.boot_timeout, var.installer, var.arch, var.kernel, var.initrd, var.kernel_args,
    var.source_url, var.suite, var.disk, var.packages, var.user_data, var.files, var.ssh_user, var.ssh_port, var.claim, var.bmc_ca, var.wipe,
  ]
}

run "no_kernel" {
  command = plan
  variables {
    kernel = null
  }
  expect_failures = [duffy_claim.machine]
}

run "no_source" {
  command = plan
  variables {
    source_url = null
  }
  expect_failures = [duffy_claim.machine]
}

run "no_image" {
  command = plan
  variables {
    boot = "virtual_media"
  }
  expect_failures = [duffy_claim.machine]
}

run "no_node_url" {
  command = plan
  variables {
    broker = {
      id   = "b", node_id = "n", pool = "p", hostname = "h", tags = {}, ssh_public_keys = ["k"], directory = "/nonexistent"
      host = { name = "n1", hostname = "n1", ipaddr = "192.0.2.11", bmc = { address = "https://192.0.2.111", kind = "redfish" }, attributes = {} }
    }
  }
  expect_failures = [duffy_claim.machine]
}

run "ipmi_boots_from_pxe" {
  command = plan
  variables {
    boot = "http"
    broker = {
      id   = "b", node_id = "n", pool = "p", hostname = "h", tags = {}, ssh_public_keys = ["k"], directory = "/nonexistent", url = "http://192.0.2.1", token = "t"
      host = { name = "n1", hostname = "n1", ipaddr = "192.0.2.11", bmc = { address = "192.0.2.111", kind = "ipmi" }, attributes = {} }
    }
  }
  expect_failures = [duffy_claim.machine]
}

run "wipes_from_nowhere" {
  command = plan
  variables {
    wipe = { boot = "http", url = "ftp://192.0.2.1/wipe.efi", firmware = "coreboot" }
  }
  expect_failures = [var.wipe]
}

run "attributes_that_are_none" {
  command = plan
  variables {
    broker = {
      id   = "b", node_id = "n", pool = "p", hostname = "h", tags = {}, ssh_public_keys = ["k"], directory = "/nonexistent", url = "http://192.0.2.1", token = "t"
      host = { name = "n1", hostname = "n1", ipaddr = "192.0.2.11", bmc = { address = "https://192.0.2.111", kind = "redfish" }, attributes = { arch = "amd64" } }
    }
  }
  expect_failures = [duffy_claim.machine]
}

run "a_disk_that_is_no_path" {
  command = plan
  variables {
    broker = {
      id   = "b", node_id = "n", pool = "p", hostname = "h", tags = {}, ssh_public_keys = ["k"], directory = "/nonexistent", url = "http://192.0.2.1", token = "t"
      host = { name = "n1", hostname = "n1", ipaddr = "192.0.2.11", bmc = { address = "https://192.0.2.111", kind = "redfish" }, attributes = { disk = "sda" } }
    }
  }
  expect_failures = [duffy_claim.machine]
}
