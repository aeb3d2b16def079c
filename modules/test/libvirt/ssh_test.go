package libvirt_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/vm"
)

// sshServer is the sshd of a hypervisor.
type sshServer struct {
	address             string
	keyFile, knownHosts string // what a client needs
}

// startSSH runs an sshd until the test ends. It lets root in on loopback, and sees a
// libvirtd's socket where it is on every hypervisor.
func startSSH(t *testing.T, l *vm.Libvirt) sshServer {
	t.Helper()
	sshd := brokertest.NeedProgram(t, "sshd")
	brokertest.NeedProgram(t, "virt-ssh-helper")
	_, socket, ok := strings.Cut(l.URI, "?socket=")
	if !ok {
		t.Fatalf("the URI %s has no socket", l.URI)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	authorized, private, _ := key(t)
	hostPublic, hostPrivate, _ := key(t)
	s := sshServer{address: address, keyFile: file(t, private), knownHosts: knownHosts(t, address, hostPublic)}
	config := file(t, fmt.Sprintf(`ListenAddress %s
HostKey %q
AuthorizedKeysFile %q
AuthenticationMethods publickey
AllowUsers root
PermitRootLogin prohibit-password
PermitUserRC no
PidFile none
PrintMotd no
StrictModes no
UseDNS no
UsePAM no
LogLevel VERBOSE
`, address, file(t, hostPrivate), file(t, authorized+"\n")))
	// A /run of its own: /var/run leads there, too.
	script := `set -e
mount --make-rprivate /
mkdir "$1/libvirt" "$1/sshd"
chmod 0755 "$1" "$1/sshd"
mount --bind "$2" "$1/libvirt"
mount --rbind "$1" /run
exec "$3" -D -e -f "$4"`
	logPath := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "sh", t.TempDir(), filepath.Dir(socket), sshd, config)
	cmd.Stdout, cmd.Stderr = log, log
	// In a namespace for processes those of the connections end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if text, err := os.ReadFile(logPath); t.Failed() {
			t.Logf("sshd said (%v):\n%s", err, text)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(logPath)
		if err == nil && bytes.Contains(text, []byte("Server listening on")) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal("sshd does not listen")
		}
	}
}

// knownHosts makes a file that knows a host by a public key.
func knownHosts(t *testing.T, address, public string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, fmt.Sprintf("[%s]:%s %s\n", host, port, public))
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOverSSH makes and destroys a node on a hypervisor that is reached by SSH alone,
// with one URI for the provider's SSH and for virsh's, and an upload. The node has
// nothing to boot.
func TestOverSSH(t *testing.T) {
	if os.Getuid() != 0 {
		brokertest.Skip(t, "only root's libvirtd and sshd do: this test needs root")
	}
	m := newModule(t)
	l := vm.Start(t)
	s := startSSH(t, l)
	other, _, _ := key(t)
	uri := func(transport, knownHosts string) string {
		return fmt.Sprintf("qemu+%s://root@%s/system?keyfile=%s&sshauth=privkey&%s", transport, s.address, s.keyFile, knownHosts)
	}
	wrong := knownHosts(t, s.address, other)
	right := uri("ssh", "knownhosts="+s.knownHosts)
	path, sum := image(t)
	m.node(l, vm.Image{}, "00000000000000a1", map[string]any{
		"kernel": nil, "initrd": nil, "cmdline": nil, "image_url": path, "image_sha256": sum,
		"network_mode": "user", "network_isolated": true,
	})

	// Both look who the hypervisor is.
	for _, c := range []struct {
		what, uri, virsh, want string
	}{
		{"the provider", uri("ssh", "knownhosts="+wrong), right, "knownhosts: key mismatch"},
		{"virsh", right, uri("libssh", "known_hosts="+wrong), "authentication failed: !!! SSH HOST KEY VERIFICATION FAILED"},
	} {
		m.values["uri"], m.values["virsh_uri"] = c.uri, c.virsh
		out, err := m.run("apply", "-auto-approve")
		unwrapped := strings.Join(strings.Fields(strings.NewReplacer("│", " ").Replace(out)), " ")
		if err == nil || !strings.Contains(unwrapped, c.want) {
			t.Errorf("%s knows another host key: %v; want %q in\n%s", c.what, err, c.want, out)
		}
		if has := left(l) + strings.Join(l.Volumes(), " "); has != "" {
			t.Errorf("%s knows another host key: the hypervisor has %s", c.what, has)
		}
		if err := os.RemoveAll(filepath.Join(m.dir, "terraform.tfstate")); err != nil {
			t.Fatal(err)
		}
	}

	m.values["uri"], m.values["virsh_uri"] = right, nil
	m.must("apply", "-auto-approve")
	if got := l.Virsh("domstate", "duffy-00000000000000a1"); got != "running" {
		t.Errorf("the domain is %s", got)
	}
	m.must("destroy", "-auto-approve", "-refresh=false")
	if has := left(l); has != "" {
		t.Errorf("the hypervisor still has %s", has)
	}
}
