// Package libvirt_test proves modules/libvirt with virtual machines: through the
// real broker, and with Terraform alone where a test takes the broker's place.
package libvirt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/vm"
)

func TestMain(m *testing.M) { os.Exit(live.Main(m)) }

// needPrograms skips the test where the provider's own programs are missing.
func needPrograms(t *testing.T) {
	t.Helper()
	for _, program := range []string{"terraform", "mkisofs", "xsltproc", "qemu-img", "qemu-system-x86_64", "qemu-system-ppc64"} {
		brokertest.NeedProgram(t, program)
	}
}

// variables are those of a pool of test guests: the kernel is booted directly, over
// an empty disk, and QEMU forwards a port.
func variables(l *vm.Libvirt, image vm.Image, arch string, more ...string) string {
	lines := []string{
		fmt.Sprintf("uri = %q", l.URI),
		fmt.Sprintf("storage_pool = %q", l.Pool),
		fmt.Sprintf("arch = %q", arch),
		fmt.Sprintf("kernel = %q", image.Kernel),
		fmt.Sprintf("initrd = %q", image.Initrd),
		fmt.Sprintf("cmdline = %q", image.Cmdline),
		"disk_size = 1",
		"vcpus = 1",
		`network_mode = "user"`,
		"network_isolated = true",
		"user_data = \"#!/bin/sh\\necho ours > /run/user-data-ran\\n\"",
	}
	switch arch {
	case "ppc64le":
		// "auto" has to find out that there is no KVM for it.
		lines = append(lines, "memory = 512", "vof = true", `accelerator = "auto"`)
	default:
		lines = append(lines, "memory = 256", `accelerator = "tcg"`)
	}
	return strings.Join(append(lines, more...), "\n    ")
}

func pool(t *testing.T, name, variables string) string {
	t.Helper()
	return fmt.Sprintf("pool %q {\n  module = %q\n  fill_level = 1\n  ready {\n    timeout = \"4m\"\n  }\n  variables = {\n    %s\n  }\n}\n",
		name, filepath.Join(providers.Root(t), "modules", "libvirt"), variables)
}

// left tells what a hypervisor has, but for base volumes.
func left(l *vm.Libvirt) string {
	volumes := slices.DeleteFunc(l.Volumes(), func(name string) bool { return strings.HasPrefix(name, "duffy-base-") })
	return strings.Join(append(l.Domains(), volumes...), " ")
}

func TestLifecycleOfBothArchitectures(t *testing.T) {
	needPrograms(t)
	l := vm.Start(t)
	arches := []string{"x86_64", "ppc64le"}
	pools := make(map[string]string)
	for _, arch := range arches {
		pools[arch] = pool(t, arch, variables(l, vm.Guest(t, arch), arch))
	}
	text := func() string { return pools["x86_64"] + pools["ppc64le"] }
	b := live.New(t, text())
	b.Env = append(b.Env, "TF_CLI_CONFIG_FILE="+providers.Config(t, "libvirt"))
	b.Start()
	for _, arch := range arches {
		b.Ready(arch, 1, 4*time.Minute)
		s := b.Request(arch, 1)
		n := s.Nodes[0]
		if got := strings.TrimSpace(b.SSH(n, "uname -m")); got != arch {
			t.Errorf("the node of pool %s is %s", arch, got)
		}
		if got := strings.TrimSpace(b.SSH(n, "hostname; cat /run/user-data-ran; grep -c vda$ /proc/partitions")); got != n.Hostname+"\nours\n1" {
			t.Errorf("host name, what the pool's user data did, disks: %q; want %q, ours, 1", got, n.Hostname)
		}
		for _, want := range []string{fmt.Sprintf(`"arch":%q`, arch), `"accelerator":"tcg"`} {
			if !strings.Contains(string(bytes.ReplaceAll(n.Data, []byte(" "), nil)), want) {
				t.Errorf("the session's node has the data %s; want %s in it", n.Data, want)
			}
		}
		name := "duffy-" + n.UID()
		if description := l.Virsh("desc", name); !strings.Contains(description, "pool "+arch) {
			t.Errorf("the domain is described as %q", description)
		}
		if metadata := l.Virsh("metadata", name, "https://github.com/duffy-broker/duffy-broker"); !strings.Contains(metadata, "duffy:node-id") || !strings.Contains(metadata, n.UID()) {
			t.Errorf("the domain's metadata have no tags: %s", metadata)
		}
		// No other node takes its place.
		pools[arch] = strings.Replace(pools[arch], "fill_level = 1", "fill_level = 0", 1)
		b.WritePools(text())
		b.Reload()
		b.Retire(s)
		b.Eventually("the domain and the volumes of the node are gone", time.Minute, func() error {
			if has := left(l); strings.Contains(has, name) {
				return fmt.Errorf("there are %s", has)
			}
			return nil
		})
	}
	b.Drain(time.Minute)
	if has := left(l); has != "" {
		t.Errorf("the hypervisor still has %s", has)
	}
}

// TestStory01TerraformKilledInTheMiddleOfACreate kills Terraform when the domain runs and
// before Terraform can write that down.
func TestStory01TerraformKilledInTheMiddleOfACreate(t *testing.T) {
	needPrograms(t)
	l := vm.Start(t)
	b := live.New(t, pool(t, "p", variables(l, vm.Guest(t, "x86_64"), "x86_64")))
	shim, pidFile := stopper(t)
	b.Env = append(b.Env, "TF_CLI_CONFIG_FILE="+providers.Config(t, "libvirt"), "PATH="+shim+":"+os.Getenv("PATH"))
	b.Start()
	var domains []string
	b.Eventually("a domain runs", time.Minute, func() error {
		domains = strings.Fields(l.Virsh("list", "--name"))
		if len(domains) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	first := b.Nodes("p")[0]
	if domains[0] != "duffy-"+first.UID() {
		t.Fatalf("the domain is %s, and the node has the id %s", domains[0], first.UID())
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.Eventually("the node is gone", time.Minute, func() error {
		for _, n := range b.Nodes("p") {
			if n.ID == first.ID {
				return fmt.Errorf("it is %s/%s: %s", n.State, n.Condition, n.Failure)
			}
		}
		return nil
	})
	if has := left(l); strings.Contains(has, first.UID()) {
		t.Errorf("the hypervisor still has %s", has)
	}
	b.Drain(time.Minute)
	if has := left(l); has != "" {
		t.Errorf("the hypervisor still has %s", has)
	}
}

// stopper gives a directory for the front of PATH with an xsltproc that stops the
// Terraform whose provider calls it, the first time, before it does its work: the
// provider goes on and makes the domain. The process id comes into a file.
func stopper(t *testing.T) (dir, pidFile string) {
	t.Helper()
	xsltproc := brokertest.NeedProgram(t, "xsltproc")
	dir = t.TempDir()
	pidFile = filepath.Join(dir, "pid")
	script := fmt.Sprintf(`#!/bin/sh
if (set -C; : > %[1]q) 2>/dev/null; then
  read -r _ _ _ terraform _ < /proc/$PPID/stat
  kill -STOP "$terraform"
  echo "$terraform" > %[1]q
fi
exec %[2]q "$@"
`, pidFile, xsltproc)
	if err := os.WriteFile(filepath.Join(dir, "xsltproc"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, pidFile
}
