# What machines are booted with.

mock_provider "duffy" {}

variables {
  broker = {
    id              = "6a1d3a30-0000-4000-8000-00000000b001"
    node_id         = "0123456789abcdef"
    pool            = "p"
    hostname        = "node-0123456789abcdef"
    tags            = {}
    ssh_public_keys = ["ssh-ed25519 AAAA broker", "ssh-ed25519 BBBB other"]
    directory       = "/nonexistent"
    url             = "http://192.0.2.1:8080"
    token           = "TOKEN"
    ssh_host_key    = { private_key = "-----BEGIN OPENSSH PRIVATE KEY-----\nKEY\n-----END OPENSSH PRIVATE KEY-----\n", public_key = "ssh-ed25519 HHHH" }
    host = {
      name       = "n1"
      hostname   = "n1.example.org"
      ipaddr     = "192.0.2.11"
      bmc        = { address = "https://192.0.2.111", kind = "redfish" }
      attributes = { arch = "aarch64", disk = "/dev/nvme0n1", rack = "4" }
    }
  }
  kernel      = "http://192.0.2.1/vmlinuz"
  initrd      = ["http://192.0.2.1/initrd.img"]
  kernel_args = ["console=ttyS1", "x={boot}/x"]
  source_url  = "http://192.0.2.1:81/BaseOS/x86_64"
}

run "kickstart" {
  assert {
    condition     = duffy_machine.node.files["boot.ipxe"] == "#!ipxe\nkernel http://192.0.2.1/vmlinuz initrd=initrd.img ip=dhcp inst.text inst.repo=http://192.0.2.1:81/BaseOS/x86_64 inst.ks=http://192.0.2.1:8080/boot/TOKEN/kickstart.cfg console=ttyS1 x=http://192.0.2.1:8080/boot/TOKEN/x\ninitrd --name initrd.img http://192.0.2.1/initrd.img\nboot\n"
    error_message = "boot.ipxe is ${nonsensitive(duffy_machine.node.files["boot.ipxe"])}"
  }
  assert {
    condition = alltrue([for text in [
      "\nssh-ed25519 AAAA broker\nssh-ed25519 BBBB other\nKEYS\n", "\nKEY\n", "echo 'ssh-ed25519 HHHH'", "--hostname=n1.example.org\n", "ignoredisk --only-use=/dev/nvme0n1\n",
      "bootloader --append=\"console=ttyS1\"\n", "curl -fsS -X POST --retry 60 --retry-delay 5 --retry-connrefused http://192.0.2.1:8080/boot/TOKEN/done\n", "url --url=\"http://192.0.2.1:81/BaseOS/x86_64\"\n",
    ] : strcontains(duffy_machine.node.files["kickstart.cfg"], text)])
    error_message = "kickstart.cfg is ${nonsensitive(duffy_machine.node.files["kickstart.cfg"])}"
  }
  assert {
    condition     = duffy_machine.node.boot.source == "pxe" && duffy_machine.node.wait.until == "call_home" && duffy_machine.node.wipe == null && duffy_claim.machine.asset_tag
    error_message = "The defaults are others."
  }
  assert {
    condition     = output.ipaddr == "192.0.2.11" && output.hostname == "n1.example.org" && output.ssh_host_keys[0] == "ssh-ed25519 HHHH" && output.data.host == "n1" && output.data.arch == "aarch64"
    error_message = "The outputs are others."
  }
}

run "preseed" {
  variables {
    installer = "preseed"
    ssh_user  = "ci"
    ssh_port  = 2222
    packages  = ["git"]
    wipe      = { boot = "virtual_media", url = "http://192.0.2.1/wipe.iso", timeout = "2h" }
    files     = { "own.sh" = "curl {boot}/x # {hostname} {keys}" }
  }
  assert {
    condition = alltrue([for text in [
      "d-i mirror/http/hostname string 192.0.2.1:81\n", "d-i mirror/http/directory string /BaseOS/x86_64\n", "curl sudo git\n", "wget -O /target/tmp/finish.sh http://192.0.2.1:8080/boot/TOKEN/finish.sh",
    ] : strcontains(duffy_machine.node.files["preseed.cfg"], text)])
    error_message = "preseed.cfg is ${nonsensitive(duffy_machine.node.files["preseed.cfg"])}"
  }
  assert {
    condition = alltrue([for text in [
      "cat > /home/ci/.ssh/authorized_keys", "useradd -m -s /bin/bash ci\n", "\nPort 2222\n", "http://192.0.2.1:8080/boot/TOKEN/done\n",
    ] : strcontains(duffy_machine.node.files["finish.sh"], text)])
    error_message = "finish.sh is ${nonsensitive(duffy_machine.node.files["finish.sh"])}"
  }
  assert {
    condition     = duffy_machine.node.files["own.sh"] == "curl http://192.0.2.1:8080/boot/TOKEN/x # n1.example.org ssh-ed25519 AAAA broker\nssh-ed25519 BBBB other"
    error_message = "own.sh is ${nonsensitive(duffy_machine.node.files["own.sh"])}"
  }
  assert {
    condition     = duffy_machine.node.wipe.source == "virtual_media" && duffy_machine.node.wipe.timeout == "2h"
    error_message = "The wipe is another."
  }
}

run "cloud_init" {
  variables {
    installer = "cloud-init"
    user_data = "#!/bin/sh\necho own\n"
  }
  assert {
    condition     = strcontains(duffy_machine.node.files["boot.ipxe"], " ds=nocloud-net;s=http://192.0.2.1:8080/boot/TOKEN/cloud-init/ ")
    error_message = "boot.ipxe is ${nonsensitive(duffy_machine.node.files["boot.ipxe"])}"
  }
  assert {
    condition     = strcontains(duffy_machine.node.files["cloud-init/user-data"], "\"ed25519_public\": \"ssh-ed25519 HHHH\"") && strcontains(duffy_machine.node.files["cloud-init/user-data"], base64encode("#!/bin/sh\necho own\n"))
    error_message = "user-data is ${nonsensitive(duffy_machine.node.files["cloud-init/user-data"])}"
  }
  assert {
    condition     = yamldecode(duffy_machine.node.files["cloud-init/meta-data"]).instance-id == "0123456789abcdef"
    error_message = "meta-data is ${nonsensitive(duffy_machine.node.files["cloud-init/meta-data"])}"
  }
}

# What is installed already, on a broker without a --node-url.
run "disk" {
  variables {
    boot     = "disk"
    wait_for = "ssh"
    claim    = "none"
    broker = {
      id   = "b", node_id = "n", pool = "p", hostname = "h", tags = {}, ssh_public_keys = ["k"], directory = "/nonexistent"
      host = { name = "n1", hostname = "n1", ipaddr = "192.0.2.11", bmc = { address = "192.0.2.111", kind = "ipmi" }, attributes = {} }
    }
  }
  assert {
    condition     = length(duffy_machine.node.files) == 0 && !duffy_claim.machine.asset_tag && duffy_machine.node.wait.address == "192.0.2.11"
    error_message = "The machine is given something to boot, or is claimed."
  }
}
