package openstack_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/vm"
)

// TestGuests puts what servers boot from into the directory that GUESTS names, for
// cloud/up: ARCH/kernel, ARCH/initrd and ARCH/cmdline. cloud/run runs it before
// there is no network any more.
func TestGuests(t *testing.T) {
	dir := os.Getenv("GUESTS")
	if dir == "" {
		t.Skip("part of make test-openstack")
	}
	for _, arch := range []string{"x86_64", "ppc64le"} {
		image := vm.Guest(t, arch)
		to := filepath.Join(dir, arch)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, path := range map[string]string{"kernel": image.Kernel, "initrd": image.Initrd} {
			if err := os.Symlink(path, filepath.Join(to, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(to, "cmdline"), []byte(image.Cmdline+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
