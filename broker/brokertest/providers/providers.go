// Package providers builds Terraform providers from source for tests: each from a
// tools module of its own below .ci/tools, since their dependencies conflict.
package providers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// provider is one that can be built.
type provider struct {
	source  string // as modules name it
	version string // the one in go.mod of the tools module
	main    string // its main package
	// variable names the environment variable with the path of a program that was
	// built before, for those that take minutes. Others are built by each test
	// process; Go's build cache makes that a matter of linking.
	variable, make string
}

func known() map[string]provider {
	return map[string]provider{
		"libvirt":   {source: "dmacvicar/libvirt", version: "0.8.3", main: "github.com/dmacvicar/terraform-provider-libvirt"},
		"openstack": {source: "terraform-provider-openstack/openstack", version: "1.54.1", main: "github.com/terraform-provider-openstack/terraform-provider-openstack"},
		"aws":       {source: "hashicorp/aws", version: "4.9.0", variable: "DUFFY_AWS_PROVIDER", make: "test-aws"},
	}
}

// Root gives the root of the source tree.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // of the source tree
		if err == nil && strings.HasPrefix(string(text), "module github.com/duffy-broker/duffy-broker\n") {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the test does not run in the source tree")
		}
		dir = filepath.Dir(dir)
	}
}

// Config builds the providers, such as "libvirt", into a filesystem mirror, and gives
// the path of a CLI configuration that installs providers from there and from nowhere
// else, for TF_CLI_CONFIG_FILE. All goes when the test ends. A provider that takes
// minutes to build is taken from where an environment variable says; without that
// the test is skipped, also with REQUIRE_ALL=1: `make programs` names these.
func Config(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	mirror := filepath.Join(dir, "mirror")
	for _, name := range names {
		p, ok := known()[name]
		if !ok {
			t.Fatalf("no provider %q", name)
		}
		// Both Terraform and OpenTofu read it; each has a registry of its own.
		var first string
		for _, host := range []string{"registry.terraform.io", "registry.opentofu.org"} {
			target := filepath.Join(mirror, host, filepath.FromSlash(p.source), p.version, runtime.GOOS+"_"+runtime.GOARCH,
				fmt.Sprintf("terraform-provider-%s_v%s", name, p.version))
			if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
				t.Fatal(err)
			}
			if first != "" {
				if err := os.Link(first, target); err != nil {
					t.Fatal(err)
				}
				continue
			}
			first = target
			p.put(t, name, target)
		}
	}
	config := filepath.Join(dir, "terraform.rc")
	text := fmt.Sprintf("disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// put makes target the provider's program.
func (p provider) put(t testing.TB, name, target string) {
	t.Helper()
	if p.variable != "" {
		built := os.Getenv(p.variable)
		if built == "" {
			t.Skipf("the provider %s takes minutes to build: `make %s` builds it and runs this test, or name it in %s", p.source, p.make, p.variable)
		}
		program, err := os.ReadFile(built) //nolint:gosec // whoever tests names it
		if err != nil {
			t.Fatalf("%s: %v", p.variable, err)
		}
		if err := os.WriteFile(target, program, 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
		return
	}
	brokertest.NeedProgram(t, "go")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", target, p.main) //nolint:gosec // a table of ours
	build.Dir = filepath.Join(Root(t), ".ci", "tools", name)
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the provider %s: %v\n%s", name, err, out)
	}
}
