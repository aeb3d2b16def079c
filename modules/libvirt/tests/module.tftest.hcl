# What a plan says, with a provider that makes nothing.

mock_provider "libvirt" {}

variables {
  broker = {
    id              = "6a1d3a30-0000-4000-8000-00000000b001"
    node_id         = "0123456789abcdef"
    pool            = "p"
    hostname        = "node-0123456789abcdef"
    tags            = { "duffy:node-id" = "0123456789abcdef" }
    ssh_public_keys = ["ssh-ed25519 AAAA broker"]
    directory       = "/nonexistent"
    ssh_host_key    = { private_key = "-----BEGIN X-----\nabc\n-----END X-----\n", public_key = "ssh-ed25519 BBBB" }
  }
  accelerator = "tcg"
  base_volume = "centos-stream-9.qcow2"
}

run "x86_64" {
  command = plan
  assert {
    condition     = libvirt_domain.node.machine == "q35" && libvirt_domain.node.type == "qemu" && libvirt_domain.node.cpu[0].mode == "maximum"
    error_message = "machine, type or CPU of x86_64 under TCG"
  }
  assert {
    condition     = strcontains(libvirt_domain.node.xml[0].xslt, "virtio-scsi") && !strcontains(libvirt_domain.node.xml[0].xslt, "domain/features")
    error_message = "q35 has no IDE bus, and keeps its features"
  }
  assert {
    condition     = libvirt_volume.disk[0].name == "duffy-0123456789abcdef.qcow2" && libvirt_volume.disk[0].base_volume_name == "centos-stream-9.qcow2"
    error_message = "the overlay"
  }
  assert {
    condition     = libvirt_domain.node.network_interface[0].wait_for_lease && libvirt_domain.node.network_interface[0].network_name == "default"
    error_message = "the network interface"
  }
  assert {
    condition     = yamldecode(libvirt_cloudinit_disk.seed.user_data).ssh_keys.ed25519_private == var.broker.ssh_host_key.private_key && output.ssh_host_keys[0] == "ssh-ed25519 BBBB"
    error_message = "the host key"
  }
  assert {
    condition     = yamldecode(libvirt_cloudinit_disk.seed.user_data).ssh_authorized_keys[0] == "ssh-ed25519 AAAA broker" && !yamldecode(libvirt_cloudinit_disk.seed.user_data).disable_root
    error_message = "the broker's key"
  }
}

run "an_old_pc_keeps_its_ide_bus" {
  command = plan
  variables {
    machine  = "pc-i440fx-7.2"
    firmware = "uefi"
  }
  assert {
    condition     = !strcontains(libvirt_domain.node.xml[0].xslt, "virtio-scsi") && strcontains(libvirt_domain.node.xml[0].xslt, "firmware")
    error_message = "the stylesheet"
  }
}

run "ppc64le" {
  command = plan
  variables {
    arch        = "ppc64le"
    accelerator = "kvm"
  }
  assert {
    condition     = libvirt_domain.node.machine == "pseries" && libvirt_domain.node.type == "kvm" && libvirt_domain.node.cpu[0].mode == "host-passthrough"
    error_message = "machine, type or CPU"
  }
  # The three corrections of what the provider writes.
  assert {
    condition = alltrue([for s in ["<xsl:template match=\"domain/features\"/>", "graphics|video", "bus=\"scsi\""] :
    strcontains(libvirt_domain.node.xml[0].xslt, s)])
    error_message = "a correction for pseries is missing"
  }
}

run "aarch64" {
  command = plan
  variables {
    arch = "aarch64"
  }
  assert {
    condition     = libvirt_domain.node.machine == "virt" && libvirt_domain.node.cpu[0].mode == "maximum"
    error_message = "machine or CPU"
  }
  assert {
    condition     = strcontains(libvirt_domain.node.xml[0].xslt, "features/apic") && strcontains(libvirt_domain.node.xml[0].xslt, "bus=\"scsi\"")
    error_message = "the stylesheet"
  }
}

run "user_networking_gives_each_node_an_address" {
  command = plan
  variables {
    network_mode     = "user"
    network_isolated = true
  }
  assert {
    condition     = startswith(output.ipaddr, "127.") && output.ssh_port == 20000 && length(libvirt_domain.node.network_interface) == 0
    error_message = "address, port or interface"
  }
  assert {
    condition     = strcontains(libvirt_domain.node.xml[0].xslt, "restrict=on,hostfwd=tcp:${output.ipaddr}:20000-:22")
    error_message = "the forwarding"
  }
}

run "user_networking_on_one_address_gives_each_node_a_port" {
  command = plan
  variables {
    network_mode            = "user"
    network_forward_address = "192.0.2.7"
    network_forward_ports   = { first = 30000, last = 30999 }
  }
  assert {
    condition     = output.ipaddr == "192.0.2.7" && output.ssh_port > 30000 && output.ssh_port <= 30999
    error_message = "address or port"
  }
}

run "bridge_by_name" {
  command = plan
  variables {
    network_mode    = "bridge"
    network_bridge  = "br0"
    network_address = "name"
    network_domain  = "ci.example.org"
  }
  assert {
    condition     = output.ipaddr == "node-0123456789abcdef.ci.example.org" && output.hostname == output.ipaddr && !libvirt_domain.node.network_interface[0].wait_for_lease
    error_message = "the name is the address"
  }
}

run "user_data_of_the_pool_is_merged" {
  command = plan
  variables {
    user_data = "#cloud-config\npackages: [git]\n"
    ssh_user  = "ci"
  }
  assert {
    condition = alltrue([for s in ["MIME-Version: 1.0", "Content-Type: text/cloud-config", base64encode(var.user_data), "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()"] :
    strcontains(libvirt_cloudinit_disk.seed.user_data, s)])
    error_message = "the multipart message"
  }
  assert {
    condition     = strcontains(libvirt_cloudinit_disk.seed.user_data, "\"name\": \"ci\"") && output.ssh_user == "ci"
    error_message = "the user"
  }
}

run "an_uploaded_image_is_named_by_its_content" {
  command = plan
  variables {
    base_volume  = null
    image_url    = "https://images.example.org/centos.qcow2"
    image_sha256 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
  }
  assert {
    condition     = startswith(libvirt_volume.disk[0].base_volume_name, "duffy-base-000102030405060708090a0b-") && output.image == libvirt_volume.disk[0].base_volume_name
    error_message = "the base volume's name"
  }
}
