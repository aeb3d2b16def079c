"""Puts into a new OpenStack what the tests need.

seed.py identity PASSWORD: users of services, endpoints, and the project "ci" whose
user has the role "member" alone.
seed.py contents GUESTS: images, a flavor, the network "public" (192.0.2.0/24), and
the external network "floating" (198.51.100.0/24) behind a router.
"""

import os
import sys

import openstack

SERVICES = (
    ("glance", "image", "http://127.0.0.1:9292"),
    ("placement", "placement", "http://127.0.0.1:8778"),
    ("nova", "compute", "http://127.0.0.1:8774/v2.1"),
    ("neutron", "network", "http://127.0.0.1:9696"),
    ("cinder", "volumev3", "http://127.0.0.1:8776/v3/%(project_id)s"),
)

# What Glance must say of an image of an architecture that is not the machine's.
PROPERTIES = {
    "x86_64": {"hw_machine_type": "pc", "hw_architecture": "x86_64"},
    "ppc64le": {
        "hw_machine_type": "pseries",
        "hw_architecture": "ppc64le",
        "hw_emulation_architecture": "ppc64le",
        "hw_cdrom_bus": "scsi",
        "hw_video_model": "none",
    },
}


def identity(cloud, password):
    admin = cloud.identity.find_role("admin")
    member = cloud.identity.find_role("member")
    project = cloud.identity.create_project(name="service", domain_id="default")
    for name, kind, url in SERVICES:
        user = cloud.identity.create_user(name=name, domain_id="default", password=password)
        cloud.identity.assign_project_role_to_user(project, user, admin)
        service = cloud.identity.create_service(name=name, type=kind)
        cloud.identity.create_endpoint(service_id=service.id, url=url, interface="public", region_id="RegionOne")
    ci = cloud.identity.create_project(name="ci", domain_id="default")
    user = cloud.identity.create_user(name="ci", domain_id="default", password=password)
    cloud.identity.assign_project_role_to_user(ci, user, member)


def upload(cloud, name, path, kind, **properties):
    image = cloud.image.create_image(
        name=name,
        filename=path,
        container_format=kind,
        disk_format="raw" if kind == "bare" else kind,
        visibility="public",
        validate_checksum=False,
        wait=True,
        **properties,
    )
    return image.id


def contents(cloud, guests):
    empty = os.path.join(guests, "empty")
    with open(empty, "wb") as f:
        f.truncate(1 << 20)
    for arch in sorted(PROPERTIES):
        here = os.path.join(guests, arch)
        if not os.path.isdir(here):
            continue
        with open(os.path.join(here, "cmdline")) as f:
            cmdline = f.read().strip()
        kernel = upload(cloud, "kernel-" + arch, os.path.join(here, "kernel"), "aki")
        initrd = upload(cloud, "initrd-" + arch, os.path.join(here, "initrd"), "ari")
        upload(cloud, "guest-" + arch, empty, "bare", kernel_id=kernel, ramdisk_id=initrd, os_command_line=cmdline, **PROPERTIES[arch])
    # Users may boot from a volume alone with a flavor without a disk.
    cloud.compute.create_flavor(name="small", ram=384, vcpus=1, disk=1, is_public=True)
    # One that no host has room for, and one that the quota refuses.
    cloud.compute.create_flavor(name="huge", ram=384, vcpus=1, disk=100000, is_public=True)
    cloud.compute.create_flavor(name="dear", ram=1 << 20, vcpus=1, disk=1, is_public=True)
    public = cloud.network.create_network(
        name="public", is_shared=True, provider_network_type="flat", provider_physical_network="public"
    )
    subnet = cloud.network.create_subnet(
        name="public",
        network_id=public.id,
        ip_version=4,
        cidr="192.0.2.0/24",
        gateway_ip="192.0.2.1",
        is_dhcp_enabled=False,
        allocation_pools=[{"start": "192.0.2.10", "end": "192.0.2.99"}],
    )
    floating = cloud.network.create_network(name="floating", is_router_external=True, provider_network_type="local")
    cloud.network.create_subnet(
        name="floating", network_id=floating.id, ip_version=4, cidr="198.51.100.0/24", is_dhcp_enabled=False
    )
    router = cloud.network.create_router(name="router", external_gateway_info={"network_id": floating.id})
    port = cloud.network.create_port(network_id=public.id, fixed_ips=[{"subnet_id": subnet.id, "ip_address": "192.0.2.2"}])
    cloud.network.add_interface_to_router(router, port_id=port.id)


{"identity": identity, "contents": contents}[sys.argv[1]](openstack.connect(cloud="admin"), sys.argv[2])
