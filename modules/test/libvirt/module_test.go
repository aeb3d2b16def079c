package libvirt_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/vm"
)

// module is a copy of the module that Terraform works in: a test takes the broker's
// place.
type module struct {
	t      *testing.T
	dir    string
	env    []string
	values map[string]any
	signer ssh.Signer
}

func newModule(t *testing.T) *module {
	t.Helper()
	needPrograms(t)
	m := &module{t: t, dir: filepath.Join(t.TempDir(), "module"), values: map[string]any{}}
	if err := os.CopyFS(m.dir, os.DirFS(filepath.Join(providers.Root(t), "modules", "libvirt"))); err != nil {
		t.Fatal(err)
	}
	m.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+providers.Config(t, "libvirt"), "CHECKPOINT_DISABLE=1", "TMPDIR="+t.TempDir())
	if out, err := m.terraform("init", "-input=false"); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	return m
}

func (m *module) terraform(args ...string) (string, error) {
	cmd := exec.CommandContext(m.t.Context(), brokertest.NeedProgram(m.t, "terraform"), args...)
	cmd.Dir, cmd.Env = m.dir, m.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs a command of Terraform with the module's values.
func (m *module) run(command string, args ...string) (string, error) {
	m.t.Helper()
	text, err := json.Marshal(m.values)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.dir, "terraform.tfvars.json"), text, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return m.terraform(append([]string{command, "-no-color", "-input=false"}, args...)...)
}

// must is run that has to succeed.
func (m *module) must(command string, args ...string) {
	m.t.Helper()
	if out, err := m.run(command, args...); err != nil {
		m.t.Fatalf("terraform %s: %v\n%s", command, err, out)
	}
}

func (m *module) output(name string) string {
	m.t.Helper()
	out, err := m.terraform("output", "-no-color", "-raw", name)
	if err != nil {
		m.t.Fatalf("output %s: %v\n%s", name, err, out)
	}
	return out
}

// node gives the module the values for a node, and what a broker says of it.
func (m *module) node(l *vm.Libvirt, image vm.Image, id string, values map[string]any) {
	m.t.Helper()
	authorized, _, signer := key(m.t)
	m.signer = signer
	hostPublic, hostPrivate, _ := key(m.t)
	m.values = map[string]any{
		"broker": map[string]any{
			"id": "6a1d3a30-0000-4000-8000-00000000b001", "node_id": id, "pool": "p", "hostname": "node-" + id,
			"tags":            map[string]string{"duffy:node-id": id, "odd": `a<b & {c} "d"`},
			"ssh_public_keys": []string{authorized}, "directory": filepath.Join(m.t.TempDir(), "node"),
			"ssh_host_key": map[string]string{"private_key": hostPrivate, "public_key": hostPublic},
		},
		"uri": l.URI, "storage_pool": l.Pool, "accelerator": "tcg", "memory": 256, "vcpus": 1,
		"kernel": image.Kernel, "initrd": image.Initrd, "cmdline": image.Cmdline,
	}
	maps.Copy(m.values, values)
}

func key(t *testing.T) (public, private string, signer ssh.Signer) {
	t.Helper()
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err = ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), string(pem.EncodeToMemory(block)), signer
}

// ssh runs a command on the node, which has to show the host key that it was given.
func (m *module) ssh(command string) string {
	m.t.Helper()
	line := m.values["broker"].(map[string]any)["ssh_host_key"].(map[string]string)["public_key"]
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		m.t.Fatal(err)
	}
	config := &ssh.ClientConfig{
		User: m.output("ssh_user"), Auth: []ssh.AuthMethod{ssh.PublicKeys(m.signer)}, Timeout: 10 * time.Second,
		HostKeyCallback: ssh.FixedHostKey(hostKey), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	}
	address := net.JoinHostPort(m.output("ipaddr"), m.output("ssh_port"))
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		client, err := ssh.Dial("tcp", address, config)
		if err != nil {
			if time.Now().After(deadline) {
				m.t.Fatalf("ssh to %s: %v", address, err)
			}
			continue
		}
		defer func() { _ = client.Close() }()
		session, err := client.NewSession()
		if err != nil {
			m.t.Fatal(err)
		}
		out, err := session.CombinedOutput(command)
		if err != nil {
			m.t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
}

// unchanged proves that another apply would change nothing.
func (m *module) unchanged() {
	m.t.Helper()
	if out, err := m.run("plan", "-detailed-exitcode"); err != nil {
		m.t.Errorf("after an apply there is still something to do: %v\n%s", err, out)
	}
}

// image makes a small qcow2 file, and gives its path and checksum.
func image(t *testing.T) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "image.qcow2")
	if out, err := exec.CommandContext(t.Context(), brokertest.NeedProgram(t, "qemu-img"), "create", "-f", "qcow2", path, "64M").CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(text)
	return path, hex.EncodeToString(hash[:])
}

func TestModuleTests(t *testing.T) {
	m := newModule(t)
	out, err := m.terraform("test", "-no-color")
	if err != nil {
		t.Errorf("terraform test: %v\n%s", err, out)
	}
	if out, err := m.terraform("fmt", "-no-color", "-check", "-recursive", "-diff"); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
}

func TestApplyTwiceOverAnUploadedImage(t *testing.T) {
	m := newModule(t)
	l := vm.Start(t)
	path, sum := image(t)
	m.node(l, vm.Guest(t, "x86_64"), "00000000000000a1", map[string]any{
		"image_url": path, "image_sha256": sum, "disk_size": 1,
		"network_mode": "user", "network_isolated": true,
		"user_data": "#!/bin/sh\necho ours > /run/user-data-ran\n",
	})
	m.must("apply", "-auto-approve")
	m.unchanged()
	if got := m.ssh("uname -m; hostname; cat /run/user-data-ran; grep -w vda /proc/partitions | tr -s ' ' | cut -d ' ' -f 4"); got != "x86_64\nnode-00000000000000a1\nours\n1048576\n" {
		t.Errorf("the node says %q", got)
	}
	base := m.output("image")
	if chain := l.Virsh("vol-dumpxml", "--pool", l.Pool, "duffy-00000000000000a1.qcow2"); !strings.Contains(chain, base+"</path>") {
		t.Errorf("the node's disk is no overlay of %s:\n%s", base, chain)
	}

	// A second node takes the same base volume, and leaves it behind. It is not there
	// to be booted: without QEMU's having an address to forward it does not start.
	other := newModule(t)
	occupied, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = occupied.Close() }()
	port := occupied.Addr().(*net.TCPAddr).Port
	values := maps.Clone(m.values)
	other.node(l, vm.Image{}, "00000000000000a2", map[string]any{
		"image_url": path, "image_sha256": sum, "kernel": nil, "initrd": nil, "cmdline": nil,
		"network_mode": "user", "network_forward_address": "127.0.0.1", "network_forward_ports": map[string]int{"first": port, "last": port},
	})
	out, err := other.run("apply", "-auto-approve")
	if err == nil || !strings.Contains(out, "Could not set up host forwarding rule") {
		t.Errorf("an address that is in use: %v\n%s", err, out)
	}
	if domains := l.Domains(); len(domains) != 2 {
		t.Errorf("domains: %v; the provider leaves the one that does not start", domains)
	}
	other.must("destroy", "-auto-approve", "-refresh=false")
	if has := left(l); strings.Contains(has, "00000000000000a2") {
		t.Errorf("of a domain that did not start the hypervisor still has %s", has)
	}

	m.values = values
	m.must("destroy", "-auto-approve", "-refresh=false")
	if has := left(l); has != "" {
		t.Errorf("the hypervisor still has %s", has)
	}
	if volumes := strings.Join(l.Volumes(), " "); volumes != base+" "+base+".complete" {
		t.Errorf("volumes: %s; want the base volume and its mark", volumes)
	}
	if _, err := os.Stat(m.values["broker"].(map[string]any)["directory"].(string)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node's directory: %v; want that there is none", err)
	}
}

func TestALibvirtNetworkGivesTheAddress(t *testing.T) {
	m := newModule(t)
	l := vm.StartNetworks(t)
	path := filepath.Join(t.TempDir(), "network.xml")
	if err := os.WriteFile(path, []byte(`<network><name>nodes</name><ip address="192.0.2.1" prefix="24"><dhcp><range start="192.0.2.2" end="192.0.2.99"/></dhcp></ip></network>`), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Virsh("net-create", path)
	m.node(l, vm.Guest(t, "x86_64"), "00000000000000a1", map[string]any{"network_name": "nodes"})
	m.must("apply", "-auto-approve")
	if got := m.output("ipaddr"); !strings.HasPrefix(got, "192.0.2.") {
		t.Errorf("the node has the address %q", got)
	}
	m.unchanged()
	m.must("destroy", "-auto-approve", "-refresh=false")
	if has := left(l); has != "" {
		t.Errorf("the hypervisor still has %s", has)
	}
}

func TestWhatTheHypervisorLacksIsSaidBeforeAnythingIsMade(t *testing.T) {
	m := newModule(t)
	l := vm.Start(t)
	path, sum := image(t)
	for what, c := range map[string]struct {
		values map[string]any
		want   string
	}{
		"hypervisor":  {map[string]any{"uri": "qemu+unix:///system?socket=" + l.Images + "/none"}, "hypervisor: "},
		"pool":        {map[string]any{"storage_pool": "missing"}, "configuration: storage pool missing"},
		"base volume": {map[string]any{"base_volume": "missing.qcow2"}, "configuration: base volume missing.qcow2"},
		"network":     {map[string]any{"network_mode": "network", "network_name": "missing"}, "configuration: network missing"},
		"emulator":    {map[string]any{"arch": "aarch64"}, "configuration: the hypervisor has no QEMU for aarch64"},
		"image":       {map[string]any{"image_url": path + ".missing", "image_sha256": sum}, "can't be read"},
		"checksum":    {map[string]any{"image_url": path, "image_sha256": strings.Repeat("0", 64)}, "has the SHA-256 checksum " + sum},
	} {
		if what == "emulator" {
			if _, err := exec.LookPath("qemu-system-aarch64"); err == nil {
				continue
			}
		}
		m.node(l, vm.Image{Kernel: "/vmlinuz"}, "00000000000000a1", map[string]any{"initrd": nil, "cmdline": nil, "network_mode": "user"})
		maps.Copy(m.values, c.values)
		// What the provider says of a hypervisor that it can't reach is its own.
		out, err := m.run("apply", "-auto-approve")
		unwrapped := strings.Join(strings.Fields(strings.NewReplacer("│", " ").Replace(out)), " ")
		if err == nil || !strings.Contains(unwrapped, c.want) && what != "hypervisor" {
			t.Errorf("%s: %v; want %q in\n%s", what, err, c.want, out)
		}
		if has := left(l); has != "" {
			t.Errorf("%s: the hypervisor has %s", what, has)
		}
		if volumes := l.Volumes(); len(volumes) != 0 {
			t.Errorf("%s: there are the volumes %v", what, volumes)
		}
		if err := os.Remove(filepath.Join(m.dir, "terraform.tfstate")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}
