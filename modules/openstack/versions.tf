terraform {
  required_version = ">= 1.5" # check blocks, strcontains

  required_providers {
    openstack = {
      source = "terraform-provider-openstack/openstack"
      # Nothing in this module has been dropped by 2.x or 3.x.
      version = ">= 1.54.1"
    }
  }
}

# What is null comes from the environment: OS_CLOUD, OS_AUTH_URL, OS_USERNAME,
# OS_APPLICATION_CREDENTIAL_ID and their like.
provider "openstack" {
  cloud  = var.cloud
  region = var.region
}
