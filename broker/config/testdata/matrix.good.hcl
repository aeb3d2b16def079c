# Every release on every architecture, in ten lines.
pool "centos" {
  for_each   = { for p in setproduct(["9", "10"], ["x86_64", "aarch64"]) : join("-", p) => { release = p[0], arch = p[1] } }
  name       = "centos-${each.value.release}-stream-${each.value.arch}"
  extends    = "vm"
  fill_level = each.value.arch == "x86_64" ? 4 : 1
  variables = {
    image = "centos-stream-${each.value.release}"
    arch  = each.value.arch
  }
}

template "vm" {
  module    = "./modules/cloud"
  variables = { size = "small" }
}
