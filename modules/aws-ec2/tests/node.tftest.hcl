# What the module plans and refuses, with the schema of whatever provider is installed
# and no cloud: terraform test, from 1.7 on.

mock_provider "aws" {
  mock_data "aws_ami" {
    defaults = {
      id               = "ami-0123456789abcdef0"
      architecture     = "x86_64"
      root_device_name = "/dev/sda1"
      block_device_mappings = [
        { device_name = "/dev/sda1", virtual_name = "", no_device = "", ebs = { volume_size = "10", delete_on_termination = "true" } },
        { device_name = "/dev/sdb", virtual_name = "", no_device = "", ebs = { volume_size = "20", delete_on_termination = "false" } },
        { device_name = "/dev/sdc", virtual_name = "ephemeral0", no_device = "", ebs = {} },
      ]
    }
  }

  mock_data "aws_ec2_instance_type" {
    defaults = {
      supported_architectures         = ["x86_64"]
      supported_usages_classes        = ["on-demand", "spot"]
      bare_metal                      = false
      burstable_performance_supported = false
    }
  }

  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0" }
  }
}

variables {
  broker = {
    id              = "b"
    node_id         = "00c0ffee00c0ffee"
    pool            = "p"
    hostname        = "node-00c0ffee00c0ffee"
    tags            = { "duffy:node-id" = "00c0ffee00c0ffee" }
    ssh_public_keys = ["ssh-ed25519 AAAA"]
  }
  instance_type   = "c5.large"
  image_owner     = "self"
  image_name      = "CentOS*"
  ssh_cidr_blocks = ["192.0.2.0/24"]
}

run "on_demand" {
  command = plan

  assert {
    condition     = length(aws_launch_template.node.instance_market_options) == 0
    error_message = "it is not on demand"
  }
  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required"
    error_message = "IMDSv1 would answer"
  }
  assert {
    condition     = [for d in aws_launch_template.node.block_device_mappings : [d.device_name, tobool(d.ebs[0].delete_on_termination)]] == [["/dev/sda1", true], ["/dev/sdb", true]]
    error_message = "a volume would be left behind"
  }
  assert {
    condition     = aws_instance.node.timeouts.create == "10m" && length(aws_security_group.node) == 1
    error_message = "not as an ordinary node"
  }
}

run "spot" {
  command = plan

  variables {
    market             = "spot"
    security_group_ids = ["sg-0123456789abcdef0"]
  }

  assert {
    condition     = aws_launch_template.node.instance_market_options[0].market_type == "spot"
    error_message = "it is not spot"
  }
  assert {
    condition     = [for s in aws_launch_template.node.tag_specifications : s.resource_type] == ["instance", "volume", "network-interface", "spot-instances-request"]
    error_message = "something would have no tags"
  }
  assert {
    condition     = length(aws_security_group.node) == 0
    error_message = "it makes a security group besides"
  }
}

run "another_architecture" {
  command = plan

  variables {
    arch = "aarch64"
  }

  expect_failures = [aws_launch_template.node]
}

run "nobody_could_reach_it" {
  command = plan

  variables {
    ssh_cidr_blocks = []
  }

  expect_failures = [aws_security_group.node]
}

run "no_image" {
  command = plan

  variables {
    image_name = null
  }

  expect_failures = [data.aws_ami.node]
}

# What is not ASCII is encoded: the parser of MIME takes every byte for a character.
run "another_user_and_other_user_data" {
  command = plan

  variables {
    ssh_user  = "ci"
    user_data = "#cloud-config\nwrite_files: [{path: /etc/motd, content: \"Grüße\"}]\n"
  }

  assert {
    condition     = strcontains(local.user_data, "Content-Transfer-Encoding: base64\n") && strcontains(local.user_data, base64encode(var.user_data)) && !strcontains(local.user_data, "Grüße")
    error_message = "it would come out garbled: ${local.user_data}"
  }
  assert {
    condition     = local.cloud_config.users[1].name == "ci" && local.cloud_config.disable_root
    error_message = "the user who logs in must be made"
  }
}

run "a_multipart_has_its_own_headers" {
  command = plan

  variables {
    user_data = "Content-Type: multipart/mixed; boundary=\"mine\"\n\n--mine\nContent-Type: text/cloud-config\n\n#cloud-config\n{}\n--mine--\n"
  }

  assert {
    condition     = strcontains(local.user_data, "\n--${local.boundary}\nContent-Type: multipart/mixed; boundary=\"mine\"\n")
    error_message = "user data: ${local.user_data}"
  }
}

# EC2 counts bytes.
run "too_much_user_data" {
  command = plan

  variables {
    user_data = "#!/bin/sh\n# ${replace(format("%8000s", ""), " ", "ß")}\n"
  }

  expect_failures = [aws_launch_template.node]
}

# Images from VMware are like this.
run "a_root_device_that_is_no_disk" {
  command = plan

  override_data {
    target = data.aws_ami.node
    values = {
      architecture          = "x86_64"
      root_device_name      = "/dev/sda1"
      block_device_mappings = [{ device_name = "/dev/sda", virtual_name = "", no_device = "", ebs = { volume_size = "10", delete_on_termination = "true" } }]
    }
  }

  assert {
    condition     = tobool(aws_launch_template.node.block_device_mappings[0].ebs[0].encrypted) && aws_launch_template.node.block_device_mappings[0].ebs[0].volume_type == "gp3"
    error_message = "the root volume is not as it should be"
  }
}

run "each_by_itself" {
  command = plan

  variables {
    assume_role         = { role_arn = "duffy" }
    endpoints           = { ecs = "http://192.0.2.1" }
    tags                = { "duffy:pool" = "other" }
    arch                = "ppc64le"
    instance_type       = "large"
    market              = "cheap"
    spot_max_price      = 0
    cpu_credits         = "some"
    instance_profile    = "a/b"
    image_id            = "ami"
    image_owner         = "me"
    image_name          = "x"
    root_volume_size    = 0
    root_volume_type    = "sc1"
    root_volume_iops    = 99
    root_volume_kms_key = "alias/mine"
    user_data           = "dnf -y install git"
    subnet_id           = "subnet"
    availability_zone   = "US East"
    security_group_ids  = ["default"]
    ssh_cidr_blocks     = ["everywhere"]
    ssh_user            = "Root"
    ssh_port            = 0.5
  }

  expect_failures = [
    var.assume_role, var.endpoints, var.tags, var.arch, var.instance_type, var.market, var.spot_max_price, var.cpu_credits, var.instance_profile, var.image_id,
    var.image_owner, var.image_name, var.root_volume_size, var.root_volume_type, var.root_volume_iops, var.root_volume_kms_key, var.user_data, var.subnet_id,
    var.availability_zone, var.security_group_ids, var.ssh_cidr_blocks, var.ssh_user, var.ssh_port,
  ]
}

run "long_tags" {
  command = plan

  variables {
    tags = { team = join("", [for i in range(257) : "x"]) }
  }

  expect_failures = [var.tags]
}

run "a_key_for_nothing" {
  command = plan

  variables {
    root_volume_encrypted = false
    root_volume_kms_key   = "arn:aws:kms:us-east-1:123456789012:key/0123abcd"
  }

  expect_failures = [aws_launch_template.node]
}

run "too_few_operations" {
  command = plan

  variables {
    root_volume_iops = 2999
  }

  expect_failures = [aws_launch_template.node]
}

run "a_subnet_without_ipv4" {
  command = plan

  variables {
    subnet_id = "subnet-0123456789abcdef0"
  }
  override_data {
    target = data.aws_subnet.node[0]
    values = { cidr_block = "", vpc_id = "vpc-0123456789abcdef0" }
  }

  expect_failures = [aws_launch_template.node]
}
