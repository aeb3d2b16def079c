pool "a" {
  module = "https://example.org/modules-1.2.tar.gz?checksum=sha256:0123"
}
