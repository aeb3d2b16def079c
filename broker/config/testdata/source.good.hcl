# Modules that are no directories stay as they are written.
pool "builtin" {
  module = "builtin:local"
}

pool "git" {
  module = "git::https://git.example.org/modules.git//vm?ref=0123456789abcdef0123456789abcdef01234567"
}

pool "tag" {
  module = "github.com/example/modules//vm?ref=v1.2.3"
}

pool "archive" {
  module = "https://example.org/vm.zip?checksum=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

pool "registry" {
  module = "example/vm/openstack?version=1.2.3"
}
