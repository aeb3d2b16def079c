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
