package terraform

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestBootURL(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	n.Identity = e.NewIdentity(n.UID)
	if got := e.BootURL(n); got != "" {
		t.Errorf("without a URL for nodes: %q", got)
	}
	e.NodeURL = "http://192.0.2.1/duffy"
	if got, want := e.BootURL(n), "http://192.0.2.1/duffy/boot/"+identityOf(t, e, n).token; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	n.Identity = nil
	if got := e.BootURL(n); got != "" {
		t.Errorf("without an identity: %q", got)
	}
}

func TestOpenBootFile(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	open := func(name string) (string, error) {
		f, err := e.OpenBootFile(n, name)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(f)
		if closeErr := f.Close(); closeErr != nil {
			t.Error(closeErr)
		}
		return string(text), err
	}
	if _, err := open("boot.ipxe"); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("a node without a directory: %v", err)
	}
	dir := filepath.Join(e.nodesDir(), n.UID)
	boot := filepath.Join(dir, "boot")
	if err := os.MkdirAll(filepath.Join(boot, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(boot, "boot.ipxe"), "script")
	write(t, filepath.Join(boot, "sub", "ks.cfg"), "kickstart")
	write(t, filepath.Join(dir, "secret"), "secret")
	write(t, filepath.Join(e.nodesDir(), "secret"), "secret")
	for link, target := range map[string]string{"inside": "boot.ipxe", "up": "../secret", "far": "../../secret", "absolute": filepath.Join(dir, "secret"), "dir": "sub"} {
		if err := os.Symlink(target, filepath.Join(boot, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(boot, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"boot.ipxe": "script", "sub/ks.cfg": "kickstart"} {
		if got, err := open(name); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, bad := range []string{
		"", ".", "/", "..", "../secret", "sub/../boot.ipxe", "/boot.ipxe", "sub", "sub/", "sub//ks.cfg", "./boot.ipxe", "missing", "boot.ipxe/x",
		"inside", "up", "far", "absolute", "dir", "dir/ks.cfg", "pipe", "boot.ipxe\x00", `..\secret`, "../boot-done.json",
	} {
		got, err := open(bad)
		if broker.CodeOf(err) != broker.CodeNotFound || strings.Contains(err.Error(), e.Dir) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	// Not even if the node's directory, or boot in it, leads elsewhere.
	if err := os.Rename(boot, filepath.Join(dir, "real")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", boot); err != nil {
		t.Fatal(err)
	}
	if got, err := open("boot.ipxe"); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("boot is a link: %q, %v", got, err)
	}
	if err := errors.Join(os.Remove(boot), os.Rename(filepath.Join(dir, "real"), boot), os.Rename(dir, dir+"-real"), os.Symlink(dir+"-real", dir)); err != nil {
		t.Fatal(err)
	}
	if got, err := open("boot.ipxe"); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("the node's directory is a link: %q, %v", got, err)
	}
	other := n
	other.UID = "../nodes/" + n.UID
	if _, err := e.OpenBootFile(other, "boot.ipxe"); err == nil {
		t.Error("a uid with a path in it is taken")
	}
}

func TestReportBoot(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	if err := e.ReportBoot(n, broker.BootReport{}); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("a node without a directory: %v", err)
	}
	dir := filepath.Join(e.nodesDir(), n.UID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if booted, err := e.Booted(n); booted || err != nil {
		t.Errorf("booted %t, %v", booted, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "boot", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "boot", "sub", "ks.cfg"), "the host key")
	write(t, filepath.Join(dir, "other"), "the module's")
	want := broker.BootReport{At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Address: "192.0.2.7", HostKeys: []string{"ssh-ed25519 AAAA"}}
	if err := e.ReportBoot(n, want); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(dir, "boot")) || !exists(filepath.Join(dir, "other")) {
		t.Error("the boot files are left, or more is gone than these")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := e.ReportBoot(n, broker.BootReport{Address: "192.0.2.8"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(filepath.Join(dir, "boot-done.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got broker.BootReport
	if err := json.Unmarshal(text, &got); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("the first report counts: %s, %v", text, err)
	}
	if booted, err := e.Booted(n); !booted || err != nil {
		t.Errorf("booted %t, %v", booted, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
