package ssh

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/localnode"
)

// The test binary is the server of the local nodes that the tests reach.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "local-node" && os.Args[2] == "serve" {
		if err := localnode.Serve(context.Background(), os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// eachServer runs a test on both servers that a local node can have.
func eachServer(t *testing.T, test func(t *testing.T, server string)) {
	t.Run(localnode.ServerBuiltin, func(t *testing.T) { test(t, localnode.ServerBuiltin) })
	t.Run(localnode.ServerOpenSSH, func(t *testing.T) {
		brokertest.NeedProgram(t, "sshd")
		test(t, localnode.ServerOpenSSH)
	})
}

// fixture is a client with a key, and a real node that trusts it.
type fixture struct {
	client *Client
	line   string // the public key
	node   broker.Node
	dir    string // the node's
}

// newFixture starts a node. Its host keys are not recorded yet.
func newFixture(t *testing.T, server string, change func(*localnode.Options)) fixture {
	t.Helper()
	signer, line, err := LoadOrCreateKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	uid := broker.NewUID()
	o := localnode.Options{
		Dir: filepath.Join(t.TempDir(), "node"), UID: uid, Hostname: broker.DefaultHostname(uid),
		Keys: []string{line}, Server: server, Executable: executable,
	}
	if change != nil {
		change(&o)
	}
	t.Cleanup(func() {
		if err := localnode.Stop(context.Background(), o.Dir); err != nil {
			t.Error(err)
		}
	})
	if err := localnode.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	f := fixture{client: New(signer, slog.New(slog.DiscardHandler)), line: line, dir: o.Dir, node: broker.Node{
		ID: 7, UID: uid, Ready: broker.ReadyCheck{SSH: true},
	}}
	f.node.Address, f.node.SSHUser = f.read(t, "address"), f.read(t, "user")
	if f.node.SSHPort, err = strconv.Atoi(f.read(t, "port")); err != nil {
		t.Fatal(err)
	}
	return f
}

// recorded gives the node with its host key recorded.
func (f fixture) recorded(t *testing.T) broker.Node {
	t.Helper()
	n := f.node
	n.HostKeys = []string{f.read(t, "host_key.pub")}
	return n
}

func (f fixture) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (f fixture) authorizedKeys() string {
	return filepath.Join(f.dir, "home", ".ssh", "authorized_keys")
}

// tenant makes a key pair: what a tenant has, and what it gave to the broker.
func tenant(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	signer, line, err := LoadOrCreateKey(filepath.Join(t.TempDir(), "tenant"))
	if err != nil {
		t.Fatal(err)
	}
	return signer, line
}

// logsIn tells whether a key opens the node.
func (f fixture) logsIn(t *testing.T, key ssh.Signer) bool {
	t.Helper()
	conn, failure := New(key, slog.New(slog.DiscardHandler)).connect(t.Context(), f.recorded(t), false)
	if failure == nil {
		conn.close()
		return true
	}
	if failure.step != stepLogin {
		t.Fatalf("neither let in nor refused: %v", failure)
	}
	return false
}

// wantError checks an error's text, and its code.
func wantError(t *testing.T, err error, code broker.Code, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error is\n%s\nwant it to hold %q", err, text)
		}
	}
	if got := broker.CodeOf(err); got != code {
		t.Errorf("code %s, want %s", got, code)
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("error has more than one line: %q", err)
	}
}
