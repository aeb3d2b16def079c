# The module with a provider that makes nothing: `terraform test` in this directory.
# What a real cloud says to it is tested in modules/test/openstack.

mock_provider "openstack" {
  mock_data "openstack_images_image_v2" {
    defaults = { id = "11111111-1111-4111-8111-111111111111", name = "guest", min_ram_mb = 256, min_disk_gb = 1 }
  }
  mock_data "openstack_compute_flavor_v2" {
    defaults = { id = "f1" }
  }
  mock_data "openstack_networking_network_v2" {
    defaults = { id = "22222222-2222-4222-8222-222222222222" }
  }
  mock_data "openstack_networking_secgroup_v2" {
    defaults = { id = "33333333-3333-4333-8333-333333333333" }
  }
  mock_resource "openstack_networking_port_v2" {
    defaults = { id = "44444444-4444-4444-8444-444444444444", all_fixed_ips = ["2001:db8::7", "192.0.2.7"] }
  }
  mock_resource "openstack_networking_floatingip_v2" {
    defaults = { address = "198.51.100.9" }
  }
}

variables {
  broker = {
    id              = "5f0c1d4e-0000-4000-8000-000000000001"
    node_id         = "0123456789abcdef"
    pool            = "p"
    hostname        = "node-0123456789abcdef"
    tags            = { "duffy:broker-id" = "5f0c1d4e-0000-4000-8000-000000000001", "duffy:node-id" = "0123456789abcdef", "duffy:pool" = "p" }
    ssh_public_keys = ["ssh-ed25519 AAAAC3Nz broker"]
    ssh_host_key    = { private_key = "-----BEGIN-----\nsecret\n-----END-----\n", public_key = "ssh-ed25519 AAAAhost" }
  }
  image_name   = "guest"
  flavor_name  = "small"
  network_name = "net"
}

run "the_least" {
  assert {
    condition     = openstack_compute_instance_v2.node.name == "node-0123456789abcdef" && openstack_networking_port_v2.node.name == "node-0123456789abcdef"
    error_message = "server and port must have the node's name"
  }
  assert {
    condition     = openstack_networking_port_v2.node.description == "duffy:broker-id=5f0c1d4e-0000-4000-8000-000000000001 duffy:pool=p"
    error_message = "the sweep finds the port by its description"
  }
  assert {
    condition     = openstack_compute_instance_v2.node.metadata["duffy:node-id"] == "0123456789abcdef" && contains(openstack_compute_instance_v2.node.tags, "duffy:node-id=0123456789abcdef") && contains(openstack_networking_port_v2.node.tags, "duffy:pool=p")
    error_message = "the broker's tags must be on server and port"
  }
  assert {
    condition     = length(openstack_networking_secgroup_v2.node) == 1 && length(openstack_networking_secgroup_rule_v2.node) == 2
    error_message = "without security groups the node has one of its own, which lets SSH in"
  }
  assert {
    condition     = openstack_compute_instance_v2.node.config_drive && openstack_compute_instance_v2.node.image_id == "11111111-1111-4111-8111-111111111111" && length(openstack_compute_instance_v2.node.block_device) == 0 && openstack_compute_instance_v2.node.key_pair == null
    error_message = "the server boots from the image, with a config drive and without a key pair"
  }
  assert {
    condition     = output.ipaddr == "192.0.2.7" && output.ssh_user == "root" && output.ssh_port == 22 && output.image == "11111111-1111-4111-8111-111111111111" && output.hostname == "node-0123456789abcdef"
    error_message = "outputs"
  }
  assert {
    condition     = output.ssh_host_keys[0] == "ssh-ed25519 AAAAhost" && output.data.arch == "x86_64"
    error_message = "the broker's host key is known before the first connection"
  }
  assert {
    condition = jsondecode(split("\n", local.user_data)[8]) == {
      hostname            = "node-0123456789abcdef"
      preserve_hostname   = false
      disable_root        = false
      ssh_authorized_keys = ["ssh-ed25519 AAAAC3Nz broker"]
      ssh_deletekeys      = true
      ssh_keys            = { ed25519_private = "-----BEGIN-----\nsecret\n-----END-----\n", ed25519_public = "ssh-ed25519 AAAAhost" }
    }
    error_message = "cloud-config of the module: ${split("\n", local.user_data)[8]}"
  }
}

run "without_a_host_key" {
  variables {
    broker = {
      id              = "5f0c1d4e-0000-4000-8000-000000000001"
      node_id         = "0123456789abcdef"
      pool            = "p"
      hostname        = "builder-7"
      tags            = {}
      ssh_public_keys = ["ssh-ed25519 AAAAC3Nz broker"]
    }
    ssh_user = "cloud-user"
  }
  assert {
    condition     = output.ssh_host_keys == null && !strcontains(local.user_data, "ssh_keys") && output.ssh_user == "cloud-user"
    error_message = "a broker that makes no host key is served, too"
  }
  assert {
    condition     = openstack_compute_instance_v2.node.name == "duffy-0123456789abcdef" && jsondecode(split("\n", local.user_data)[8]).hostname == "builder-7"
    error_message = "names in the cloud have the node's id; the host has its own name"
  }
  assert {
    condition     = jsondecode(split("\n", local.user_data)[8]).users[1].name == "cloud-user"
    error_message = "the user who logs in must be made"
  }
}

run "own_user_data" {
  variables {
    user_data = "#!/bin/sh\necho hello\n"
  }
  assert {
    condition     = strcontains(local.user_data, "Content-Type: text/x-shellscript; charset=\"utf-8\"\nContent-Transfer-Encoding: base64\n") && strcontains(local.user_data, base64encode("#!/bin/sh\necho hello\n"))
    error_message = "a script is a part of its own"
  }
}

run "own_multipart" {
  variables {
    user_data = "Content-Type: multipart/mixed; boundary=\"mine\"\n\n--mine\nContent-Type: text/cloud-config\n\n#cloud-config\n{}\n--mine--\n"
  }
  assert {
    condition     = strcontains(local.user_data, "\n--${local.boundary}\nContent-Type: multipart/mixed; boundary=\"mine\"\n") && endswith(local.user_data, "--mine--\n\n\n--${local.boundary}--\n")
    error_message = "a multipart is put in with its own headers: ${local.user_data}"
  }
}

run "no_port_security" {
  variables {
    port_security   = false
    security_groups = ["default"]
  }
  assert {
    condition     = openstack_networking_port_v2.node.no_security_groups && !openstack_networking_port_v2.node.port_security_enabled && length(openstack_networking_secgroup_v2.node) == 0 && length(data.openstack_networking_secgroup_v2.node) == 0
    error_message = "no group applies without port security"
  }
}

run "ppc64le" {
  variables {
    arch             = "ppc64le"
    image_properties = { hw_architecture = "ppc64le", hw_machine_type = "pseries", hw_cdrom_bus = "scsi", hw_video_model = "none" }
  }
}

run "ppc64le_image_without_properties" {
  command = plan
  variables {
    arch = "ppc64le"
  }
  expect_failures = [check.ppc64le_image]
}

run "ppc64le_image_for_pc" {
  command = plan
  variables {
    arch             = "ppc64le"
    image_properties = { hw_architecture = "ppc64le", hw_machine_type = "pc-q35-7.2", hw_cdrom_bus = "scsi", hw_video_model = "none" }
  }
  expect_failures = [data.openstack_images_image_v2.node[0]]
}

run "ppc64le_image_with_ide" {
  command = plan
  variables {
    arch             = "ppc64le"
    image_properties = { hw_architecture = "ppc64le", hw_machine_type = "pseries", hw_cdrom_bus = "ide", hw_video_model = "none" }
  }
  expect_failures = [data.openstack_images_image_v2.node[0]]
}

run "image_of_another_architecture" {
  command = plan
  variables {
    image_properties = { architecture = "aarch64" }
  }
  expect_failures = [data.openstack_images_image_v2.node[0]]
}

run "no_image" {
  command = plan
  variables {
    image_name = null
  }
  expect_failures = [data.openstack_images_image_v2.node[0]]
}

run "two_flavors" {
  command = plan
  variables {
    flavor_id = "f1"
  }
  expect_failures = [data.openstack_compute_flavor_v2.node]
}

run "no_network" {
  command = plan
  variables {
    network_name = null
  }
  expect_failures = [data.openstack_networking_network_v2.node]
}

run "a_disk_that_is_too_small" {
  command = plan
  variables {
    root_volume = { size = 10 }
  }
  override_data {
    target = data.openstack_images_image_v2.node[0]
    values = { min_disk_gb = 11 }
  }
  expect_failures = [openstack_compute_instance_v2.node]
}

run "refused_arch" {
  command = plan
  variables {
    arch = "amd64"
  }
  expect_failures = [var.arch]
}

run "refused_image_id" {
  command = plan
  variables {
    image_id = "guest"
  }
  expect_failures = [var.image_id]
}

run "refused_regex" {
  command = plan
  variables {
    image_name       = null
    image_name_regex = "guest-("
  }
  expect_failures = [var.image_name_regex]
}

run "refused_volume" {
  command = plan
  variables {
    root_volume = { size = 0.5 }
  }
  expect_failures = [var.root_volume]
}

run "refused_ingress" {
  command = plan
  variables {
    ingress = [{ port_min = 22, port_max = 22, cidr = "0.0.0.0/0" }, { protocol = "tcp", cidr = "everywhere" }]
  }
  expect_failures = [var.ingress]
}

run "refused_user_data" {
  command = plan
  variables {
    user_data = "echo hello"
  }
  expect_failures = [var.user_data]
}

run "refused_user_data_that_is_too_long" {
  command = plan
  variables {
    user_data = format("#!/bin/sh\n#%40000s\n", "")
  }
  expect_failures = [openstack_compute_instance_v2.node]
}

run "refused_tags" {
  command = plan
  variables {
    tags = { "a/b" = "c" }
  }
  expect_failures = [var.tags]
}

run "refused_user" {
  command = plan
  variables {
    ssh_user = "Root"
  }
  expect_failures = [var.ssh_user]
}

run "refused_each_by_itself" {
  command = plan
  variables {
    image_name        = " "
    image_owner       = ""
    network_id        = "net"
    subnet_id         = "subnet"
    availability_zone = "nova:host1"
    server_group_id   = "group"
    floating_ip_pool  = " "
    security_groups   = [""]
  }
  expect_failures = [
    var.image_name, var.image_owner, var.network_id, var.subnet_id, var.availability_zone, var.server_group_id, var.floating_ip_pool, var.security_groups,
  ]
}

run "refused_number_of_tags" {
  command = plan
  variables {
    tags = { for i in range(41) : "k${i}" => "v" }
  }
  expect_failures = [var.tags]
}
