# In a file of its own: it has a state of its own then, and the module keeps the
# disks of a server that exists.

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

run "everything" {
  variables {
    image_name        = null
    image_id          = "99999999-9999-4999-8999-999999999999"
    flavor_name       = null
    flavor_id         = "f1"
    root_volume       = { size = 20, type = "ssd" }
    security_groups   = ["default", "33333333-3333-4333-8333-333333333333"]
    subnet_id         = "55555555-5555-4555-8555-555555555555"
    floating_ip_pool  = "public"
    server_group_id   = "66666666-6666-4666-8666-666666666666"
    availability_zone = "az2"
    tags              = { team = "ci/cd", "duffy:pool" = "another" }
  }
  assert {
    condition     = length(openstack_networking_secgroup_v2.node) == 0 && length(openstack_networking_secgroup_rule_v2.node) == 0 && length(openstack_networking_port_v2.node.security_group_ids) > 0
    error_message = "existing groups are taken instead of one of its own"
  }
  assert {
    condition     = openstack_compute_instance_v2.node.block_device[0].uuid == "99999999-9999-4999-8999-999999999999" && openstack_compute_instance_v2.node.block_device[0].delete_on_termination && openstack_compute_instance_v2.node.block_device[0].volume_size == 20 && openstack_compute_instance_v2.node.block_device[0].volume_type == "ssd"
    error_message = "the server boots from a volume that goes with it"
  }
  assert {
    condition     = output.ipaddr == "198.51.100.9" && openstack_networking_floatingip_v2.node[0].port_id == "44444444-4444-4444-8444-444444444444" && output.image == "99999999-9999-4999-8999-999999999999"
    error_message = "the floating IP is where the node is reached"
  }
  assert {
    condition     = one(openstack_compute_instance_v2.node.scheduler_hints).group == "66666666-6666-4666-8666-666666666666" && openstack_compute_instance_v2.node.availability_zone == "az2"
    error_message = "placement"
  }
  assert {
    condition     = openstack_compute_instance_v2.node.metadata == tomap({ "duffy:broker-id" = "5f0c1d4e-0000-4000-8000-000000000001", "duffy:node-id" = "0123456789abcdef", "duffy:pool" = "p", team = "ci/cd" })
    error_message = "own tags are metadata; those of the broker win"
  }
  assert {
    condition     = !contains(openstack_networking_port_v2.node.tags, "team=ci/cd") && length(openstack_networking_port_v2.node.tags) == 3
    error_message = "a tag with a slash can't be one in OpenStack"
  }
}
