pool "a" {
  module = "../modules/local"
  tenants = ["ci", ""]
}
