package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// on runs a command on the data directory, which must succeed.
func (d *testDir) on(args ...string) string {
	d.t.Helper()
	code, out, errOut := command(d.t, append(args, "--data-dir", d.path)...)
	if code != 0 {
		d.t.Fatalf("%v: exit %d: %s%s", args, code, out, errOut)
	}
	return out
}

// Every command of admins that works over the API works on the data directory,
// and prints the same.
func TestDataDir_everyCommand(t *testing.T) {
	noSettings(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	d := newTestDir(t)
	groups := []string{"tenant", "session", "node", "legacy", "events"}
	tried := 0
	for _, args := range dataCases(t) {
		args = append(strings.Fields(args[0]), args[1:]...)
		if !slices.Contains(groups, args[0]) {
			continue
		}
		tried++
		var data map[string]any
		out, _, _ := strings.Cut(d.on(append(args, "--format", "json")...), "\n")
		if err := json.Unmarshal([]byte(out), &data); err != nil || data["error"] != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	if tried < 20 {
		t.Errorf("%d commands were tried", tried)
	}
	d.on("admin", "tenant", "show", "demo")
	d.on("legacy", "key", "remove", "demo", "1")
}

// No admin has a key any more: whoever has the data directory gets in again, and
// the events say who it was.
func TestDataDir_lostKey(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	var made struct {
		Tenant struct {
			APIKey string `json:"api_key"`
		} `json:"tenant"`
	}
	if err := json.Unmarshal([]byte(d.on("admin", "tenant", "update", "admin", "--reset-key", "--format", "json")), &made); err != nil || made.Tenant.APIKey == "" {
		t.Fatalf("%v: no key", err)
	}
	d.use(func(b *broker.Broker, _ *bolt.Store, _ *secret.Keyring) {
		if _, err := b.Authenticate(t.Context(), "admin", d.admin); broker.CodeOf(err) != broker.CodeUnauthorized {
			t.Errorf("the lost key: %v", err)
		}
		if actor, err := b.Authenticate(t.Context(), "admin", made.Tenant.APIKey); err != nil || !actor.IsAdmin {
			t.Errorf("the new key: %+v, %v", actor, err)
		}
	})
	if out := d.on("events"); !strings.Contains(out, "API key of tenant 'admin' changed by operator on the data directory") {
		t.Errorf("events:\n%s", out)
	}
}

// What is asked for is recorded; nothing waits for a loop that does not run.
func TestDataDir_records(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	code, _, errOut := command(t, "session", "retire", "1", "--data-dir", d.path)
	if code != 0 || !strings.Contains(errOut, "done when the broker is started") {
		t.Errorf("retire: exit %d: %s", code, errOut)
	}
	if code, _, errOut := command(t, "node", "list", "--data-dir", d.path); code != 0 || errOut != "" {
		t.Errorf("a list: exit %d: %s", code, errOut)
	}
	began := time.Now()
	d.on("node", "hold", "2", "--reason", "why")
	d.on("node", "hold", "5")
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v: something was waited for", took)
	}
	for args, want := range map[string]string{
		"node hold 6": "node 6 is being made", "node hold 99": "Not Found",
	} {
		if code, out, errOut := command(t, append(strings.Fields(args), "--data-dir", d.path)...); code != exitFailed || !strings.Contains(errOut, want) || strings.Contains(errOut, "recorded") {
			t.Errorf("%s: exit %d: %s%s", args, code, out, errOut)
		}
	}
	states := make(map[int64]broker.NodeState)
	d.use(func(_ *broker.Broker, store *bolt.Store, _ *secret.Keyring) {
		err := store.View(t.Context(), func(tx broker.ReadTx) error {
			s, err := tx.Session(1)
			if err != nil || s.State != broker.SessionRetired {
				t.Errorf("session: %+v, %v", s, err)
			}
			nodes, err := tx.Nodes(broker.NodeQuery{})
			for _, n := range nodes {
				states[n.ID] = n.State
				if (n.ID == 2 || n.ID == 5) && (n.Hold == nil || n.Hold.By != operatorName) {
					t.Errorf("node %d: hold %+v", n.ID, n.Hold)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	want := map[int64]broker.NodeState{
		1: broker.NodeReleasing, 2: broker.NodeHeld, 3: broker.NodeReady, 4: broker.NodeReady, 5: broker.NodeDestroying, 6: broker.NodeApplying,
	}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if out := d.on("node", "logs", "5"); !strings.Contains(out, "Destruction complete") {
		t.Errorf("logs: %s", out)
	}
	d.on("node", "release", "2")
}

// A held node whose workspace is out can't be released, as over the API.
func TestDataDir_workspace(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	d.on("node", "hold", "2")
	d.use(func(_ *broker.Broker, store *bolt.Store, _ *secret.Keyring) {
		err := store.View(t.Context(), func(tx broker.ReadTx) error {
			n, err := tx.Node(2)
			if err != nil {
				return err
			}
			dir := filepath.Join(d.path, "workspaces", n.UID, ".duffy")
			record, _ := json.Marshal(map[string]any{"node_id": 2, "node_uid": n.UID, "hold": n.Hold.Since})
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "workspace.json"), record, 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if code, _, errOut := command(t, "node", "release", "2", "--data-dir", d.path); code != exitFailed || !strings.Contains(errOut, "has a workspace") {
		t.Errorf("release: exit %d: %s", code, errOut)
	}
	d.on("node", "workspace", "--return", "--discard", "2")
}

// Defaults of tenants are those of pools.hcl only if it is named.
func TestDataDir_tenantDefaults(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	pools := testPoolsFile(t, "tenant_defaults {\n  node_quota = 77\n}\n")
	if out := d.on("tenant", "show", "demo"); !strings.Contains(out, "10 (default)") {
		t.Errorf("got %s", out)
	}
	if out := d.on("tenant", "show", "demo", "--pools", pools); !strings.Contains(out, "77 (default)") {
		t.Errorf("got %s", out)
	}
}

// What can't be done on a data directory is said, with what to do instead.
func TestDataDir_refuses(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	other := filepath.Join(t.TempDir(), "other.key")
	if err := os.WriteFile(other, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(want []string, args ...string) {
		t.Helper()
		code, out, errOut := command(t, args...)
		for _, text := range want {
			if code != exitFailed || out != "" || !strings.Contains(errOut, text) {
				t.Errorf("%v: exit %d: %q is not in: %s%s", args, code, text, out, errOut)
			}
		}
	}
	running := []string{"needs a running broker", "leave --data-dir out"}
	refused(running, "events", "-f", "--data-dir", d.path)
	refused(running, "node", "logs", "-f", "5", "--data-dir", d.path)
	refused(running, "node", "workspace", "2", filepath.Join(t.TempDir(), "w"), "--data-dir", d.path)
	refused([]string{"is not the data directory of a broker", "--data-dir"}, "tenant", "list", "--data-dir", t.TempDir())
	refused([]string{"data-dir url"}, "tenant", "list", "--data-dir", d.path, "--url", "http://127.0.0.1:1")
	refused([]string{"go with --data-dir"}, "tenant", "list", "--key-file", other)
	refused([]string{"is not the one that", "backup"}, "tenant", "list", "--data-dir", d.path, "--key-file", other)
	refused([]string{"unknown flag: --data-dir"}, "client", "list-pools", "--data-dir", d.path)

	dir, err := openDataDir(d.path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	refused([]string{"a broker that does not run", "leave --data-dir out", "just starting"}, "tenant", "list", "--data-dir", d.path)
	if err := dir.serves("http://127.0.0.1:8080/api/v1"); err != nil {
		t.Fatal(err)
	}
	refused([]string{"a broker that does not run", "leave --data-dir out", "--url http://127.0.0.1:8080/api/v1", fmt.Sprintf("kill %d", os.Getpid())}, "tenant", "list", "--data-dir", d.path)
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	d.on("tenant", "list") // nothing of all that holds the directory
}

// A session that was retired while the broker was stopped ends for good at its
// next start. While it runs, it is the one to ask.
func TestDataDirOfStoppedBroker(t *testing.T) {
	t.Parallel()
	s := newServer(t, plainPool(t, 2))
	s.start()
	s.full(time.Minute)
	session := s.must(201, "demo", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "plain", "quantity": 1}}}).Session
	out, err := s.command(t.Context(), "admin", "session", "list", "--data-dir", s.data).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--url "+s.url+"/api/v1") {
		t.Errorf("beside a running broker: %v: %s", err, out)
	}
	s.stop()
	if out, err := s.command(t.Context(), "admin", "session", "retire", fmt.Sprint(session.ID), "--data-dir", s.data).CombinedOutput(); err != nil {
		t.Fatalf("retire: %v: %s", err, out)
	}
	s.start()
	s.eventually("the node of the session is gone", time.Minute, func() error {
		for _, n := range s.must(200, "admin", "GET", "/nodes", nil).Nodes {
			if n.ID == session.Nodes[0].ID {
				return fmt.Errorf("it is %s", n.State)
			}
		}
		return nil
	})
	s.full(time.Minute)
	s.stop()
}

// A number is an id if there is such a tenant, else a name, in every command.
func TestTenantNames(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	for _, name := range []string{"2", "77"} {
		d.on("tenant", "create", name, "--ssh-key", "-")
	}
	for _, test := range [][2]string{
		{"tenant show 2", "tenant_id=2 tenant='demo'"},
		{"tenant show 77", "tenant_id=4 tenant='77'"},
		{"tenant show 3", "tenant_id=3 tenant='2'"},
		{"tenant retire 77", "tenant_id=4 tenant='77' active=FALSE"},
		{"tenant unretire 4", "tenant_id=4 tenant='77' active=TRUE"},
		{"tenant update 77 --quota 5", "tenant_id=4 tenant='77'"},
		{"tenant reset-key 77", "tenant_id=4 tenant='77'"},
		{"legacy key add 77", "tenant='77' tenant_id=4 key_id=1"},
		{"tenant legacy-key add 2", "tenant='demo' tenant_id=2"},
		{"admin legacy key add demo", "tenant='demo' tenant_id=2"},
		{"session list --tenant 2", "session_id=1"},
		{"session list --tenant demo", "session_id=1"},
		{"admin tenant legacy-key add 3", "tenant='2' tenant_id=3 key_id=1"},
		{"admin session list --tenant 3 --all", ""},
	} {
		args, want := test[0], test[1]
		if out := d.on(append(strings.Fields(args), "--format", "flat")...); !strings.Contains(out, want) || want == "" && out != "" {
			t.Errorf("%s: got %s, want %s", args, out, want)
		}
	}
	for _, args := range []string{"legacy key remove 77 1", "tenant legacy-key remove 3 1"} {
		d.on(strings.Fields(args)...)
	}
	if out := d.on("legacy", "report", "--format", "flat"); strings.Contains(out, "tenant='77'") || strings.Contains(out, "tenant='2'") {
		t.Errorf("removed keys are reported: %s", out)
	}
}
