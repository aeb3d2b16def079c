package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/api"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// testDir is the data directory of a broker that made some nodes and stopped:
// of pool small, node 1 is lent to demo in session 1, 2 to 4 are in stock, 5 is
// being destroyed and has a log, 6 is being made. All are stale.
type testDir struct {
	t          *testing.T
	path       string
	admin, key string // the API keys of admin and demo
}

const (
	testLogLine   = `{"@level":"info","@message":"Destruction complete","@timestamp":"2026-11-23T17:32:29Z","type":"apply_complete"}`
	testLegacyKey = "4140e563-278f-5432-bc48-55c08191fbac"
)

func testPools() *broker.PoolSet {
	pools := new(broker.PoolSet)
	pools.Set([]broker.Pool{
		{Name: "small", FillLevel: 3, MaxNodes: 9, Contextualize: broker.ContextualizeNone, Source: broker.Source{Generation: "new"}},
		{Name: "large", FillLevel: 0, MaxNodes: 9, Contextualize: broker.ContextualizeNone},
	})
	return pools
}

// testPoolsFile writes a file that validate likes.
func testPoolsFile(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"pools.hcl": "pool \"small\" {\n  module = \".\"\n  fill_level = 1\n}\n" + more,
		"main.tf":   "variable \"broker\" { type = any }\noutput \"ipaddr\" { value = \"127.0.0.1\" }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "pools.hcl")
}

// noReload has nothing to read.
type noReload struct{}

func (noReload) Reload(context.Context, string, string) (broker.Reload, error) {
	return broker.Reload{}, nil
}
func (noReload) LastReload() broker.Reload { return broker.Reload{} }

// use opens the directory as a broker does, and closes it after fn.
func (d *testDir) use(fn func(b *broker.Broker, store *bolt.Store, keys *secret.Keyring)) {
	d.t.Helper()
	dir, err := openDataDir(d.path, time.Now())
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	keys, err := secret.Open(dir.join("keys"))
	if err != nil {
		d.t.Fatal(err)
	}
	store, err := bolt.Open(dir.join("broker.db"), bolt.Options{})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	log := slog.New(slog.DiscardHandler)
	engine := terraform.New(terraform.Config{Dir: dir.path, Keyring: keys, Log: log})
	b := broker.New(broker.Config{
		Store: store, Keys: keys, Pools: testPools(), Log: log, Now: time.Now, Wake: func() {}, Logs: engine, Workspaces: engine, Reloader: noReload{},
	})
	if _, err := b.Identity(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	fn(b, store, keys)
}

func newTestDir(t *testing.T) *testDir {
	t.Helper()
	d := &testDir{t: t, path: filepath.Join(t.TempDir(), "data"), admin: broker.NewUUID(), key: broker.NewUUID()}
	d.use(func(b *broker.Broker, store *bolt.Store, keys *secret.Keyring) {
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx := context.Background()
		admin, demo := broker.Tenant{Name: "admin", IsAdmin: true, SSHKey: "ssh-ed25519 AAAA"}, broker.Tenant{Name: "demo", SSHKey: "ssh-ed25519 BBBB"}
		check(b.CreateTenants(ctx, broker.NewTenant{Tenant: admin, APIKey: d.admin}, broker.NewTenant{Tenant: demo, APIKey: d.key}))
		demo.ID = 2
		pool, _ := testPools().Get("small")
		pool.Source.Generation = "old"
		add := func(state broker.NodeState) (n broker.Node) {
			check(store.Update(ctx, func(tx broker.Tx) error {
				n = broker.NewNode(pool, time.Now())
				n.State, n.Outputs = state, broker.Outputs{Address: "127.0.0.1", Hostname: "host-" + n.UID[:6]}
				return tx.CreateNode(&n)
			}))
			return n
		}
		lent := add(broker.NodeReady)
		_, err := b.RequestSession(ctx, demo, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "small", Quantity: 1}}})
		check(err)
		for range 3 {
			add(broker.NodeReady)
		}
		leaving := add(broker.NodeDestroying)
		add(broker.NodeApplying)
		if lent.ID != 1 || leaving.ID != 5 {
			t.Fatalf("nodes %d and %d", lent.ID, leaving.ID)
		}
		var zip bytes.Buffer
		w := gzip.NewWriter(&zip)
		_, err = w.Write([]byte(testLogLine + "\n"))
		check(err)
		check(w.Close())
		check(store.Update(ctx, func(tx broker.Tx) error {
			return broker.AddRuns(tx, leaving, []broker.Run{{Operation: "destroy", Began: time.Now(), Ended: time.Now(), Log: keys.Seal("run-log", leaving.UID, zip.Bytes())}})
		}))
		_, _, err = b.AddLegacyKey(ctx, broker.Tenant{Name: "admin", IsAdmin: true}, 2, testLegacyKey, "jenkins")
		check(err)
	})
	return d
}

// served is what a broker on the directory answers, without a loop. It gives the
// URL, and makes the admin the caller of this process's commands.
func (d *testDir) served(fn func(url string)) {
	d.t.Helper()
	d.use(func(b *broker.Broker, _ *bolt.Store, _ *secret.Keyring) {
		srv := httptest.NewServer(api.New(api.Config{Broker: b, Log: slog.New(slog.DiscardHandler)}))
		defer srv.Close()
		d.t.Setenv("DUFFY_BROKER_URL", srv.URL)
		d.t.Setenv("DUFFY_BROKER_AUTH_NAME", "admin")
		d.t.Setenv("DUFFY_BROKER_AUTH_KEY", d.admin)
		fn(srv.URL)
	})
}

// command runs a command line in this process.
func command(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e strings.Builder
	code = run(t.Context(), args, strings.NewReader("ssh-ed25519 CCCC\n"), &o, &e)
	return code, o.String(), e.String()
}

// noSettings hides this machine's settings from the commands of this process.
func noSettings(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, name := range []string{"DUFFY_BROKER_URL", "DUFFY_BROKER_AUTH_NAME", "DUFFY_BROKER_AUTH_KEY", keyVariable, keyFileVariable} {
		t.Setenv(name, "")
	}
}
