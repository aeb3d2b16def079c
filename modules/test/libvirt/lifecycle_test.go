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
		`accelerator = "tcg"`,
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
		lines = append(lines, "memory = 512", "vof = true")
	default:
		lines = append(lines, "memory = 256")
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
	var text string
	arches := []string{"x86_64", "ppc64le"}
	for _, arch := range arches {
		text += pool(t, arch, variables(l, vm.Guest(t, arch), arch))
	}
	b := live.New(t, text)
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
		// No other node takes its place: it is gone for good.
		b.WritePools(strings.ReplaceAll(text, "fill_level = 1", "fill_level = 0"))
		b.Reload()
		b.Retire(s)
		b.Eventually("the domain and the volumes of the node are gone", time.Minute, func() error {
			if has := left(l); strings.Contains(has, name) {
				return fmt.Errorf("there are %s", has)
			}
			return nil
		})
		if arch == arches[0] {
			b.WritePools(text)
			b.Reload()
		}
	}
	b.Drain(time.Minute)
	if has := left(l); has != "" {
		t.Errorf("the hypervisor still has %s", has)
	}
}

// TestStory01 would be the name of a leak; see failure stories about killed runs.
func TestTerraformKilledInTheMiddleOfACreate(t *testing.T) {
	needPrograms(t)
	l := vm.Start(t)
	b := live.New(t, pool(t, "p", variables(l, vm.Guest(t, "x86_64"), "x86_64")))
	b.Env = append(b.Env, "TF_CLI_CONFIG_FILE="+providers.Config(t, "libvirt"))
	b.Start()
	var stopped []int
	b.Eventually("the first volume is there", time.Minute, func() error {
		if left(l) == "" {
			return errors.New("nothing")
		}
		// From here on Terraform hears nothing more, while its provider goes on.
		stopped = processes(t, "terraform", b.Data)
		for _, pid := range stopped {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		if len(stopped) == 0 {
			return errors.New("no Terraform runs in the broker's directory")
		}
		return nil
	})
	first := b.Nodes("p")[0]
	for _, pid := range stopped {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	b.Eventually("nothing of the node is left, and it is gone", time.Minute, func() error {
		for _, n := range b.Nodes("p") {
			if n.ID == first.ID {
				return fmt.Errorf("it is %s/%s: %s", n.State, n.Condition, n.Failure)
			}
		}
		if has := left(l); strings.Contains(has, first.UID()) {
			return live.Final(fmt.Errorf("the hypervisor still has %s", has))
		}
		return nil
	})
	b.Drain(time.Minute)
	if has := left(l); has != "" {
		t.Errorf("the hypervisor still has %s", has)
	}
}

// processes gives the processes of a program that work below a directory.
func processes(t *testing.T, program, dir string) (pids []int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		cwd, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(cwd, dir) {
			continue
		}
		exe, err := os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
		if err != nil || filepath.Base(exe) != program {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
