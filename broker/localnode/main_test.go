package localnode

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// The test binary stands in for duffy-broker: it is what servers run, and what
// the Terraform module calls.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "local-node" {
		if err := command(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func command(name string, args []string) error {
	var o Options
	var keys string
	var answers bool
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.StringVar(&o.Dir, "dir", "", "")
	f.StringVar(&o.UID, "uid", "", "")
	f.StringVar(&o.Hostname, "hostname", "", "")
	f.StringVar(&keys, "keys", "", "")
	f.StringVar(&o.Server, "server", "", "")
	f.DurationVar(&o.BootDelay, "boot-delay", 0, "")
	f.DurationVar(&o.DiesAfter, "dies-after", 0, "")
	f.BoolVar(&answers, "answers", true, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	ctx := context.Background()
	switch name {
	case "start":
		o.Keys, o.Silent = strings.Split(keys, "\n"), !answers
		executable, err := os.Executable()
		if err != nil {
			return err
		}
		o.Executable = executable
		return Start(ctx, o)
	case "stop":
		return Stop(ctx, o.Dir)
	case "serve":
		return Serve(ctx, o.Dir)
	}
	return fmt.Errorf("no command %q", name)
}

// eachServer runs a test on both servers.
func eachServer(t *testing.T, test func(t *testing.T, server string)) {
	t.Run(ServerBuiltin, func(t *testing.T) { test(t, ServerBuiltin) })
	t.Run(ServerOpenSSH, func(t *testing.T) {
		brokertest.NeedProgram(t, "sshd")
		test(t, ServerOpenSSH)
	})
}

// node is a node under test, and the key that may log in on it.
type node struct {
	Options
	key ssh.Signer
}

// newNode gives options of a node that was not started. It is stopped at the end
// of the test, which must leave no process.
func newNode(t *testing.T, server string) node {
	t.Helper()
	key := newKey(t)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	uid := broker.NewUID()
	n := node{key: key, Options: Options{
		Dir: filepath.Join(t.TempDir(), "a node"), UID: uid, Hostname: broker.DefaultHostname(uid),
		Keys: []string{keyLine(key)}, Server: server, Executable: executable,
	}}
	t.Cleanup(func() {
		if err := Stop(context.Background(), n.Dir); err != nil {
			t.Error(err)
		}
		n.wantNothingLeft(t)
	})
	return n
}

func (n node) start(t *testing.T) node {
	t.Helper()
	if err := Start(t.Context(), n.Options); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n node) fact(t *testing.T, name string) string {
	t.Helper()
	text, err := directory(n.Dir).read(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (n node) address(t *testing.T) string {
	return net.JoinHostPort(n.fact(t, "address"), n.fact(t, "port"))
}

func (n node) pid(t *testing.T) int {
	t.Helper()
	pid, err := strconv.Atoi(n.fact(t, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// dial logs in, checking the host key.
func (n node) dial(t *testing.T, user string, key ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(n.fact(t, "host_key.pub")))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.Dial("tcp", n.address(t), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(hostKey), HostKeyAlgorithms: []string{hostKey.Type()},
		Timeout: 20 * time.Second,
	})
}

func (n node) login(t *testing.T) *ssh.Client {
	t.Helper()
	client, err := n.dial(t, n.fact(t, "user"), n.key)
	if err != nil {
		t.Fatalf("login: %v\nlog: %s", err, tail(directory(n.Dir).path("log")))
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// run runs one command in a login of its own and gives its output.
func (n node) run(t *testing.T, command string) string {
	t.Helper()
	client := n.login(t)
	defer func() { _ = client.Close() }()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// wantNothingLeft looks for processes and files of the node.
func (n node) wantNothingLeft(t *testing.T) {
	t.Helper()
	if _, err := os.Lstat(n.Dir); !os.IsNotExist(err) {
		t.Errorf("directory %s is still there", n.Dir)
	}
	for _, pid := range n.processes() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		t.Errorf("process %d is still there: %q", pid, cmdline)
	}
}

// processes scans for processes that have anything to do with the node's directory.
func (n node) processes() []int {
	var found []int
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range all {
		pid, _ := strconv.Atoi(filepath.Base(proc))
		if pid == os.Getpid() {
			continue
		}
		var text []byte
		for _, name := range []string{"cmdline", "environ"} {
			part, _ := os.ReadFile(filepath.Join(proc, name))
			text = append(text, part...)
		}
		for _, name := range []string{"cwd", "fd/0", "fd/1", "fd/2"} {
			link, _ := os.Readlink(filepath.Join(proc, name))
			text = append(text, link...)
		}
		if strings.Contains(string(text), n.Dir) {
			found = append(found, pid)
		}
	}
	return found
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func keyLine(key ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

// eventually waits for something that takes an unknown time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// isAlive tells whether a process runs. A zombie, which its parent has not
// collected yet, does not.
func isAlive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.HasPrefix(string(stat[strings.LastIndex(string(stat), ")")+1:]), " Z")
}
