terraform {
  required_version = ">= 1.5"

  required_providers {
    # A part of the duffy-broker program: nothing is downloaded, and no lock file
    # need have it.
    duffy = {
      source  = "duffy-broker/duffy"
      version = "~> 1.0"
    }
  }
}
