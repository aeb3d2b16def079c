defaults {
  module      = "./modules/local"
  tenants     = ["ci"]
  environment = { AWS_REGION = "eu-west-1" }
}

pool "inherits" {
  credentials = { AWS_SECRET_ACCESS_KEY = "file:/run/secrets/aws", AWS_SESSION_TOKEN = "env:CI_TOKEN" }
}

pool "all" {
  tenants     = ["*"]
  environment = {}
}

pool "admins" {
  tenants = []
}
