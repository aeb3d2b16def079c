package provider

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/dirhash"
)

func TestPrograms(t *testing.T) {
	platform := runtime.GOOS + "_" + runtime.GOARCH
	module := t.TempDir()
	installed := filepath.Join(module, ".terraform", "providers", "example.com")
	if _, err := programs(module); err == nil || !strings.Contains(err.Error(), "has no provider") {
		t.Errorf("without any: %v", err)
	}
	// One is a link into a mirror.
	mirror := t.TempDir()
	write(t, filepath.Join(mirror, "terraform-provider-one_v1.0.0"), "one")
	write(t, filepath.Join(mirror, "README.md"), "")
	write(t, filepath.Join(installed, "ns", "one", "1.0.0", "README"), "")
	if err := os.Symlink(mirror, filepath.Join(installed, "ns", "one", "1.0.0", platform)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(installed, "ns", "two", "2.0.0", platform, "terraform-provider-two"), "two")
	write(t, filepath.Join(installed, "ns", "two", "2.0.0", "plan9_mips", "terraform-provider-two"), "")
	hash, err := dirhash.HashDir(mirror, "", dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(module, ".terraform.lock.hcl"), fmt.Sprintf(`
provider "example.com/ns/one" {
  version = "1.0.0"
  hashes  = ["h1:of another platform", %q, "zh:of a packed one"]
}
provider "example.com/ns/two" {
  version = "2.0.0"
  hashes  = ["zh:of a packed one"]
}
`, hash))
	got, err := programs(module)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"example.com/ns/one": filepath.Join(installed, "ns", "one", "1.0.0", platform, "terraform-provider-one_v1.0.0"),
		"example.com/ns/two": filepath.Join(installed, "ns", "two", "2.0.0", platform, "terraform-provider-two"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	write(t, filepath.Join(mirror, "terraform-provider-one_v1.0.0"), "another one")
	if _, err := programs(module); err == nil || !strings.Contains(err.Error(), "example.com/ns/one: what is in "+mirror) {
		t.Errorf("with a provider that has changed: %v", err)
	}
	write(t, filepath.Join(mirror, "terraform-provider-one_v1.0.0"), "one")
	write(t, filepath.Join(installed, "ns", "two", "2.1.0", platform, "terraform-provider-two"), "two")
	if _, err := programs(module); err == nil || !strings.Contains(err.Error(), "more than one version of provider example.com/ns/two") {
		t.Errorf("with two versions: %v", err)
	}
}

func TestHandshake(t *testing.T) {
	version, network, address, err := parseHandshake("1|6|unix|/tmp/plugin1|grpc|\n")
	if version != 6 || network != "unix" || address != "/tmp/plugin1" || err != nil {
		t.Errorf("got %d, %s, %s, %v", version, network, address, err)
	}
	for line, want := range map[string]string{
		"":                             "does not begin as a plugin does",
		"This binary is a plugin.":     "does not begin as a plugin does",
		"2|6|unix|/tmp/plugin1|grpc":   "does not begin as a plugin does",
		"1|4|unix|/tmp/plugin1|grpc":   "it speaks version 4",
		"1|5|unix|/tmp/plugin1|netrpc": `protocol "netrpc"`,
	} {
		if _, _, _, err := parseHandshake(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
	if _, err := dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "not on a Unix socket") {
		t.Errorf("TCP: %v", err)
	}
}

func TestBadProgramsFail(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	for text, want := range map[string]string{
		"echo no cookie, no plugin; sleep 600": "no cookie, no plugin",
		"exit 3":                               "ended at once",
	} {
		path := filepath.Join(dir, fmt.Sprint(len(text)))
		write(t, path, "#!/bin/sh\nexec 2>/dev/null\n"+strings.Replace(text, "sleep", "exec sleep", 1)+"\n")
		if _, err := startPlugin(t.Context(), "example.com/ns/bad", path, dir, &log); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := startPlugin(t.Context(), "example.com/ns/bad", filepath.Join(dir, "none"), dir, &log); err == nil {
		t.Error("a program that does not exist was started")
	}
}
