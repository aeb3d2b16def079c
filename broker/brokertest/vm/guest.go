package vm

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// Image is what a guest boots from: QEMU loads it directly, without a boot loader.
type Image struct {
	Kernel, Initrd string // paths
	Cmdline        string
}

// The guest: its init does with user data what cloud-init does, as far as modules
// need it. See guest/init.
//
//go:embed guest
var guest embed.FS

// Guest gives a small Linux for "x86_64" or "ppc64le": root alone can log in, by
// SSH, with the keys of the user data. It takes 256 MiB of memory (512 on ppc64le),
// has a network by DHCP, reads user data from a NoCloud volume, an OpenStack config
// drive or an address (ds=nocloud;s=http://... on the kernel's command line), and
// knows of cloud-config authorized keys, the host's ed25519 key and the host name,
// and of scripts. When all is done it writes "guest: ready" on the console.
//
// It is built from packages of Debian that apt-get downloads, and kept in the user's
// cache directory: a change of what it is built by makes another one. Where a program
// for that is missing the test is skipped as [brokertest.NeedProgram] does.
func Guest(t testing.TB, arch string) Image {
	t.Helper()
	debian := map[string]string{"x86_64": "amd64", "ppc64le": "ppc64el"}[arch]
	console := map[string]string{"x86_64": "ttyS0", "ppc64le": "hvc0"}[arch]
	if debian == "" {
		t.Fatalf("there is no guest for the architecture %q", arch)
	}
	for _, program := range []string{"apt-get", "apt-cache", "dpkg-deb", "cpio", "gzip"} {
		brokertest.NeedProgram(t, program)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "duffy-broker-test")
	dir := filepath.Join(cache, "guest-"+debian+"-"+recipe(t))
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	unlock := lock(t, dir+".lock")
	defer unlock()
	if _, err := os.Stat(dir); err != nil {
		build(t, debian, dir)
	}
	return Image{Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd"), Cmdline: "console=" + console + " quiet"}
}

// recipe is a hash of all that the guest is built by. Versions of packages are not
// in it: to ask for them takes a network.
func recipe(t testing.TB) string {
	t.Helper()
	h := sha256.New()
	for _, name := range []string{"build", "init", "udhcpc.script"} {
		text, err := guest.ReadFile("guest/" + name)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(fmt.Appendf(nil, "%s %d\n%s", name, len(text), text))
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// build makes the guest in a directory beside dir, and moves it there when it is
// whole.
func build(t testing.TB, debian, dir string) {
	t.Helper()
	work, err := os.MkdirTemp(filepath.Dir(dir), "build-") //nolint:usetesting // it is moved to its place
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.CopyFS(filepath.Join(work, "recipe"), guest); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(work, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", filepath.Join(work, "recipe", "guest", "build"), debian, out) //nolint:gosec // our own script
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the guest for %s: %v\n%s", debian, err, text)
	}
	if err := os.RemoveAll(filepath.Join(out, "work")); err != nil {
		t.Fatal(err)
	}
	// QEMU may run as another user.
	if err := os.Chmod(out, 0o755); err != nil { //nolint:gosec // nothing in it is secret
		t.Fatal(err)
	}
	if err := os.Rename(out, dir); err != nil {
		t.Fatal(err)
	}
}

// lock takes a lock that other test processes wait for, and gives its release.
func lock(t testing.TB, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the cache directory
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { _ = f.Close() }
}
