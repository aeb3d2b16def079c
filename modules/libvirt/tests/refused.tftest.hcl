# Variables that can't work are refused by the plan.

mock_provider "libvirt" {}

variables {
  broker = {
    id              = "6a1d3a30-0000-4000-8000-00000000b001"
    node_id         = "0123456789abcdef"
    pool            = "p"
    hostname        = "node-0123456789abcdef"
    tags            = {}
    ssh_public_keys = ["ssh-ed25519 AAAA broker"]
    directory       = "/nonexistent"
  }
  accelerator = "tcg"
  base_volume = "base"
}

run "no_keys" {
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
    uri                     = "xen:///system"
    virsh_uri               = "localhost"
    storage_pool            = "a b"
    arch                    = "s390x"
    memory                  = 0
    vcpus                   = 0.5
    accelerator             = "xen"
    machine                 = "Q 35"
    cpu_mode                = "best"
    firmware                = "coreboot"
    base_volume             = "a/b"
    base_volume_pool        = "a/b"
    image_url               = "ftp://x"
    image_sha256            = "abc"
    disk_size               = 0
    kernel                  = "vmlinuz"
    initrd                  = "initrd"
    cmdline                 = "a\nb"
    user_data               = "echo hello"
    ssh_user                = "Root"
    network_mode            = "nat"
    network_name            = ""
    network_bridge          = "a-name-that-is-too-long"
    network_address         = "guess"
    network_domain          = "-x"
    network_forward_address = "localhost"
    network_forward_ports   = { first = 2, last = 1 }
  }
  expect_failures = [
    var.uri, var.virsh_uri, var.storage_pool, var.arch, var.memory, var.vcpus, var.accelerator, var.machine, var.cpu_mode, var.firmware,
    var.base_volume, var.base_volume_pool, var.image_url, var.image_sha256, var.disk_size, var.kernel, var.initrd, var.cmdline, var.user_data, var.ssh_user,
    var.network_mode, var.network_name, var.network_bridge, var.network_address, var.network_domain, var.network_forward_address, var.network_forward_ports,
  ]
}

run "nothing_to_boot" {
  command = plan
  variables {
    base_volume = null
  }
  expect_failures = [terraform_data.claim]
}

run "two_base_volumes" {
  command = plan
  variables {
    image_url    = "/images/a.qcow2"
    image_sha256 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
  }
  expect_failures = [terraform_data.claim]
}

run "an_image_without_a_checksum" {
  command = plan
  variables {
    base_volume = null
    image_url   = "/images/a.qcow2"
  }
  expect_failures = [terraform_data.claim]
}

run "an_initrd_without_a_kernel" {
  command = plan
  variables {
    initrd = "/boot/initrd"
  }
  expect_failures = [terraform_data.claim]
}

run "a_bridge_without_a_name" {
  command = plan
  variables {
    network_mode = "bridge"
  }
  expect_failures = [terraform_data.claim]
}

run "a_lease_on_a_bridge" {
  command = plan
  variables {
    network_mode    = "bridge"
    network_bridge  = "br0"
    network_address = "lease"
  }
  expect_failures = [terraform_data.claim]
}

run "a_name_without_a_domain" {
  command = plan
  variables {
    network_address = "name"
  }
  expect_failures = [terraform_data.claim]
}

run "uefi_where_there_is_no_choice" {
  command = plan
  variables {
    arch     = "ppc64le"
    firmware = "uefi"
  }
  expect_failures = [terraform_data.claim]
}

run "vof_without_a_kernel" {
  command = plan
  variables {
    arch = "ppc64le"
    vof  = true
  }
  expect_failures = [terraform_data.claim]
}
