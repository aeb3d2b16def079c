terraform {
  required_version = ">= 1.5" # strcontains

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 4.9"
    }
  }
}

# Credentials come as the provider takes them everywhere: from the environment, a
# profile, or the role of the machine that the broker runs on.
provider "aws" {
  region  = var.region
  profile = var.profile

  # The broker tries again by itself, and knows what else waits for this account. The
  # provider's own 25 retries would hold a run for half an hour, in which no other
  # zone is tried: EC2 says "no capacity" with a status that counts as retryable.
  max_retries = 4

  # Regions of clouds that only look like AWS.
  skip_region_validation = length(var.endpoints) > 0

  dynamic "assume_role" {
    for_each = var.assume_role[*]
    content {
      role_arn     = assume_role.value.role_arn
      external_id  = assume_role.value.external_id
      session_name = coalesce(assume_role.value.session_name, "duffy-broker")
    }
  }

  dynamic "endpoints" {
    for_each = length(var.endpoints) > 0 ? [var.endpoints] : []
    content {
      ec2                      = lookup(endpoints.value, "ec2", null)
      sts                      = lookup(endpoints.value, "sts", null)
      resourcegroupstaggingapi = lookup(endpoints.value, "resourcegroupstaggingapi", null)
    }
  }
}
