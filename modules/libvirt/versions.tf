terraform {
  required_version = ">= 1.5" # several validations of one variable, strcontains

  required_providers {
    libvirt = {
      source  = "dmacvicar/libvirt"
      version = "~> 0.8.3" # 0.9 is another provider: it has other resources
    }
  }
}
