package vm_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/vm"
)

func TestGuestsOfBothArchitectures(t *testing.T) {
	for _, c := range []struct {
		arch, machine, cdrom, address string
		memory                        int
		userData                      func(authorized, private, public string) string
	}{
		{"x86_64", "pc", "ide", "127.0.7.1", 256, cloudConfig},
		{"ppc64le", "pseries", "scsi", "127.0.7.2", 512, multipart},
	} {
		t.Run(c.arch, func(t *testing.T) {
			l := vm.Start(t)
			image := vm.Guest(t, c.arch)
			public, private := key(t)
			hostPublic, hostPrivate := key(t)
			seed := seed(t, c.userData(public.line, hostPrivate.pem, hostPublic.line))
			machine := ""
			if c.arch == "ppc64le" {
				machine = `<qemu:arg value="-machine"/><qemu:arg value="x-vof=on,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off"/>`
			}
			port := freePort(t, c.address)
			domain := fmt.Sprintf(`<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
<name>it</name><memory unit="MiB">%d</memory>
<os><type arch=%q machine=%q>hvm</type><kernel>%s</kernel><initrd>%s</initrd><cmdline>%s</cmdline></os>
<devices><disk type="file" device="cdrom"><source file=%q/><target dev="sda" bus=%q/></disk>
<serial type="file"><source path=%q/></serial></devices>
<qemu:commandline>%s<qemu:arg value="-netdev"/><qemu:arg value="user,id=n,restrict=on,hostfwd=tcp:%s:%s-:22"/>
<qemu:arg value="-device"/><qemu:arg value="virtio-net-pci,netdev=n,addr=0x1e,romfile="/></qemu:commandline></domain>`,
				c.memory, c.arch, c.machine, image.Kernel, image.Initrd, image.Cmdline, seed, c.cdrom, filepath.Join(l.Images, "console"), machine, c.address, port)
			path := filepath.Join(t.TempDir(), "domain.xml")
			if err := os.WriteFile(path, []byte(domain), 0o600); err != nil {
				t.Fatal(err)
			}
			l.Virsh("create", path)
			config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(private.signer)}, Timeout: 10 * time.Second, HostKeyCallback: ssh.FixedHostKey(hostPublic.key), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}}
			client := dial(t, net.JoinHostPort(c.address, port), config, filepath.Join(l.Images, "console"))
			defer func() { _ = client.Close() }()
			for _, check := range [][2]string{
				{"uname -m", c.arch}, {"hostname", "the-host"}, {"cat /run/script-ran", "yes"}, {`/bin/sh -c 'echo "$HOME"; id -u'`, "/root\n0"},
			} {
				if c.arch == "x86_64" && check[0] == "cat /run/script-ran" {
					continue // its user data is a single cloud-config
				}
				session, err := client.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				out, err := session.CombinedOutput(check[0])
				if got := strings.TrimSpace(string(out)); err != nil || got != check[1] {
					t.Errorf("%s: %q, %v; want %q", check[0], got, err, check[1])
				}
			}
			l.Virsh("destroy", "it")
			if left := l.Domains(); len(left) != 0 {
				t.Errorf("domains left: %v", left)
			}
		})
	}
}

func TestTwoOfThemKnowNothingOfEachOther(t *testing.T) {
	one, other := vm.Start(t), vm.Start(t)
	one.Virsh("net-define", network(t))
	if got := other.Virsh("net-list", "--all", "--name"); strings.Contains(got, "mine") {
		t.Errorf("the other libvirtd has the networks %q", got)
	}
	if got := one.Virsh("net-list", "--all", "--name"); !strings.Contains(got, "mine") {
		t.Errorf("the one libvirtd has the networks %q", got)
	}
}

// TestNothingOutlivesATestThatIsKilled runs itself in a process that it kills.
func TestNothingOutlivesATestThatIsKilled(t *testing.T) {
	if os.Getenv("VM_TEST_CHILD") != "" {
		l := vm.Start(t)
		path := filepath.Join(t.TempDir(), "domain.xml")
		if err := os.WriteFile(path, []byte(`<domain type="qemu"><name>it</name><memory unit="MiB">64</memory><os><type arch="x86_64" machine="pc">hvm</type></os></domain>`), 0o600); err != nil {
			t.Fatal(err)
		}
		l.Virsh("create", path)
		fmt.Println("up", l.Images)
		time.Sleep(time.Minute)
		return
	}
	if os.Getuid() != 0 {
		brokertest.Skip(t, "an ordinary user may not be able to make namespaces: this test needs root")
	}
	brokertest.NeedProgram(t, "libvirtd")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "VM_TEST_CHILD=1")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	images := ""
	wait(t, "the child has a guest", func() bool {
		said, _ := os.ReadFile(out.Name())
		if _, after, ok := strings.Cut(string(said), "up "); ok && strings.Contains(after, "\n") {
			images, _, _ = strings.Cut(after, "\n")
		}
		return images != ""
	})
	if len(processes(t, filepath.Dir(images))) == 0 {
		t.Fatal("no process has the child's directory in its command line")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	wait(t, "its processes are gone", func() bool { return len(processes(t, filepath.Dir(images))) == 0 })
	if err := os.RemoveAll(filepath.Dir(images)); err != nil {
		t.Error(err)
	}
}

// processes gives those with a text in their command line, but for this one.
func processes(t *testing.T, text string) (found []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if line, err := os.ReadFile(path); err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute until %s", what)
		}
	}
}

func network(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "network.xml")
	if err := os.WriteFile(path, []byte("<network><name>mine</name></network>"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type publicKey struct {
	key  ssh.PublicKey
	line string
}

type privateKey struct {
	signer ssh.Signer
	pem    string
}

func key(t *testing.T) (publicKey, privateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return publicKey{key: signer.PublicKey(), line: line}, privateKey{signer: signer, pem: string(pem.EncodeToMemory(block))}
}

func cloudConfig(authorized, private, public string) string {
	return fmt.Sprintf("#cloud-config\nhostname: the-host\nssh_authorized_keys:\n  - %s\nssh_keys:\n  ed25519_private: |\n    %s\n  ed25519_public: %s\n",
		authorized, strings.ReplaceAll(strings.TrimSpace(private), "\n", "\n    "), public)
}

func multipart(authorized, private, public string) string {
	json := fmt.Sprintf("#cloud-config\n{\"hostname\":\"the-host\",\"ssh_authorized_keys\":[%q],\"ssh_keys\":{\"ed25519_private\":%q,\"ed25519_public\":%q}}\n", authorized, private, public)
	return "Content-Type: multipart/mixed; boundary=\"MIME-ABC\"\nMIME-Version: 1.0\n\n--MIME-ABC\nContent-Type: text/cloud-config\n\n" + json +
		"\n--MIME-ABC\nContent-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\nIyEvYmluL3NoCmVjaG8geWVzID4gL3J1bi9zY3JpcHQtcmFuCg==\n\n--MIME-ABC--\n"
}

// seed makes a NoCloud volume.
func seed(t *testing.T, userData string) string {
	t.Helper()
	mkisofs := brokertest.NeedProgram(t, "mkisofs")
	dir := t.TempDir()
	for name, text := range map[string]string{"user-data": userData, "meta-data": "instance-id: it\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "seed.iso")
	if out, err := exec.CommandContext(t.Context(), mkisofs, "-quiet", "-output", path, "-volid", "cidata", "-joliet", "-rock", dir+"/user-data", dir+"/meta-data").CombinedOutput(); err != nil {
		t.Fatalf("mkisofs: %v\n%s", err, out)
	}
	return path
}

func freePort(t *testing.T, address string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func dial(t *testing.T, address string, config *ssh.ClientConfig, console string) *ssh.Client {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		client, err := ssh.Dial("tcp", address, config)
		if err == nil {
			return client
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(console)
			t.Fatalf("ssh to %s: %v\nthe console:\n%s", address, err, text)
		}
	}
}
