package fakecloud_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/localnode"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// withSSH gives a configuration whose instances run SSH servers of modules/local.
func withSSH(t *testing.T) fakecloud.Config {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return fakecloud.Config{
		Boot: func(ctx context.Context, i fakecloud.Instance) (string, int, error) {
			node := filepath.Join(dir, i.ID)
			err := localnode.Start(ctx, localnode.Options{
				Dir: node, UID: i.ID, Hostname: i.Name, Keys: i.SSHPublicKeys, Server: localnode.ServerBuiltin, Executable: executable,
			})
			if err != nil {
				return "", 0, err
			}
			address, err := os.ReadFile(filepath.Join(node, "address"))
			if err != nil {
				return "", 0, err
			}
			text, err := os.ReadFile(filepath.Join(node, "port"))
			if err != nil {
				return "", 0, err
			}
			port, err := strconv.Atoi(strings.TrimSpace(string(text)))
			return strings.TrimSpace(string(address)), port, err
		},
		Shutdown: func(ctx context.Context, i fakecloud.Instance) error {
			return localnode.Stop(ctx, filepath.Join(dir, i.ID))
		},
	}
}

// A pool's whole way through the engine, with a machine that can be logged in on.
func TestEngine(t *testing.T) {
	program := brokertest.NeedProgram(t, "terraform")
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	c := fakecloud.Start(t, withSSH(t))

	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	dir := t.TempDir()
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	e := terraform.New(terraform.Config{
		Binary: terraform.Binary{Path: program}, Dir: dir, BrokerID: "broker-1", SSHPublicKeys: []string{line},
		Keyring: keys, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	variables, err := json.Marshal(map[string]any{"endpoint": c.URL(), "size": "large", "ssh": true})
	if err != nil {
		t.Fatal(err)
	}
	pool := broker.Pool{
		Name: "small", Module: filepath.Join("testdata", "module"), Variables: variables, CreateTimeout: time.Hour, DestroyTimeout: time.Hour,
	}
	if pool.Source, err = e.Prepare(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	n := broker.NewNode(pool, time.Now())
	result, err := e.Apply(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	all := c.Instances()
	if len(all) != 1 {
		t.Fatalf("%d instances, want 1", len(all))
	}
	want := fakecloud.Request{
		Name: broker.DefaultHostname(n.UID), Size: "large", SSH: true, SSHPublicKeys: []string{line},
		Tags: map[string]string{"duffy:broker-id": "broker-1", "duffy:node-id": n.UID, "duffy:pool": "small"},
	}
	if diff := cmp.Diff(want, all[0].Request); diff != "" {
		t.Errorf("instance (-want +got):\n%s", diff)
	}
	if out := result.Outputs; out.Address != all[0].Address || out.SSHPort != all[0].SSHPort {
		t.Errorf("outputs %+v do not fit %+v", out, all[0])
	}
	if got, err := login(t, result.Outputs, key); err != nil || got != want.Name {
		t.Errorf("a login says %q, %v", got, err)
	}
	if err := e.Discard(n); err != nil {
		t.Fatal(err)
	}

	if left, err := e.Destroy(t.Context(), n, result.State); err != nil || left.State != nil {
		t.Fatalf("destroy: %v", err)
	}
	wantTruth(t, c)
	if _, err := login(t, result.Outputs, key); err == nil {
		t.Error("the SSH server of a destroyed instance answers")
	}
	if err := e.Discard(n); err != nil {
		t.Fatal(err)
	}
}

// login logs in and gives the name that the machine has there.
func login(t *testing.T, to broker.Outputs, key ssh.Signer) (string, error) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort(to.Address, fmt.Sprint(to.SSHPort)), &ssh.ClientConfig{
		User: me.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.Output(`echo "$DUFFY_NODE"`)
	return strings.TrimSpace(string(out)), err
}
