package broker_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// oneModule is a module with a sensitive variable.
type oneModule struct{}

func (oneModule) ReadModule(template string) (broker.Module, error) {
	if template == "lost" {
		return broker.Module{}, broker.Errorf(broker.CodeNotFound, "the module is not kept")
	}
	return broker.Module{Files: map[string]string{"main.tf": "1"}, Sensitive: []string{"password"}}, nil
}

func TestSnapshot(t *testing.T) {
	store, pools := memory.New(), new(broker.PoolSet)
	p := testPool("a", broker.ContextualizeSSH)
	p.Module, p.Variables = "/srv/pools/modules/node", json.RawMessage(`{"password":"hunter22","size":"small"}`)
	p.Source = broker.Source{Template: "t", Generation: "g1", Variables: json.RawMessage(`"sealed"`)}
	lost := testPool("b", broker.ContextualizeSSH)
	lost.Module, lost.Source.Template = "/opt/other", "lost"
	pools.Set([]broker.Pool{p, lost}, broker.Account{Name: "x", Rate: 1})
	b := broker.New(broker.Config{
		Store: store, Keys: plainKeys{}, Pools: pools, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return t0 }, Wake: func() {},
		Modules: oneModule{}, Runs: 7,
	})
	b.SetPoolsDir("/srv/pools")
	err := store.Update(t.Context(), func(tx broker.Tx) error {
		for i, took := range []time.Duration{90 * time.Second, 100 * time.Second, 300 * time.Second} {
			n := broker.NewNode(p, t0)
			n.State = broker.NodeReady
			n.Since = t0.Add(took + 5*time.Second)
			n.Failure = "hunter22 was wrong"
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
			runs := []broker.Run{{Operation: "apply", Began: t0, Ended: t0.Add(took)}, {Operation: "apply", Began: t0.Add(1), Ended: t0.Add(time.Hour), Class: broker.FailureOther}}
			if i == 0 {
				runs = append(runs, broker.Run{Operation: "destroy", Began: t0.Add(2), Ended: t0.Add(2 + 1500*time.Millisecond)})
			}
			if err := broker.AddRuns(tx, n, runs); err != nil {
				return err
			}
		}
		gone := broker.NewNode(p, t0)
		gone.State = broker.NodeGone
		if err := tx.CreateNode(&gone); err != nil {
			return err
		}
		s := broker.Session{State: broker.SessionActive, ExpiresAt: t0.Add(time.Hour), Nodes: []broker.LentNode{{ID: 9}}}
		if err := tx.CreateSession(&s); err != nil {
			return err
		}
		quota := 3
		for _, tenant := range []broker.Tenant{
			{Name: "admin", IsAdmin: true, KeyHash: []byte("1")}, {Name: "ci", NodeQuota: &quota, SSHKey: "hunter22", KeyHash: []byte("hunter22")},
			{Name: "old", RetiredAt: t0, KeyHash: []byte("3")}, {Name: "qa", KeyHash: []byte("4")},
		} {
			if err := tx.CreateTenant(&tenant); err != nil {
				return err
			}
		}
		return tx.SetPoolHealth(broker.PoolHealth{Pool: "a", Failures: 2, Message: "hunter22 was wrong"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Snapshot(t.Context(), broker.Tenant{ID: 2}); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("a tenant gets %v, want forbidden", err)
	}
	s, err := b.Snapshot(context.Background(), broker.Tenant{IsAdmin: true})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter22", "sealed"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the snapshot shows %q: %s", secret, raw)
		}
	}
	if got := s.Pools[0].Module + " " + s.Pools[1].Module; got != "./modules/node /opt/other" {
		t.Errorf("modules %s", got)
	}
	var variables map[string]json.RawMessage
	if err := json.Unmarshal(s.Pools[0].Variables, &variables); err != nil || string(variables["size"]) != `"small"` || !broker.IsMasked(variables["password"]) {
		t.Errorf("variables %s, %v", s.Pools[0].Variables, err)
	}
	if got := broker.Mask(s.MaskKey, json.RawMessage(`"hunter22"`)); string(got) != string(variables["password"]) {
		t.Errorf("the mask is %s, and the key gives %s", variables["password"], got)
	}
	if len(s.Nodes) != 3 || len(s.Sessions) != 1 || s.Runs != 7 || s.Root != "/srv/pools" || len(s.Modules) != 1 || len(s.Accounts) != 1 {
		t.Errorf("snapshot %s", raw)
	}
	quota := 3
	if diff := cmp.Diff([]broker.SnapshotTenant{{Name: "ci", NodeQuota: &quota}, {Name: "qa"}}, s.Tenants); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
	want := map[string]broker.Timings{"a": {Create: 100 * time.Second, Check: 5 * time.Second, Destroy: 2 * time.Second}}
	if diff := cmp.Diff(want, s.Observed); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	again, err := b.Snapshot(context.Background(), broker.Tenant{IsAdmin: true})
	if err != nil || string(again.MaskKey) == string(s.MaskKey) {
		t.Errorf("two snapshots have the same key: %v", err)
	}
}

func TestMaskVariables(t *testing.T) {
	key := []byte("k")
	masked, err := broker.MaskVariables(key, json.RawMessage(`{"a": {"x" : 1}, "b": 2}`), []string{"a", "missing"})
	if err != nil {
		t.Fatal(err)
	}
	twice, err := broker.MaskVariables(key, masked, []string{"a"})
	if err != nil || string(twice) != string(masked) {
		t.Errorf("masked twice: %s, once: %s, %v", twice, masked, err)
	}
	compact, err := broker.MaskVariables(key, json.RawMessage(`{"a":{"x":1},"b":2}`), []string{"a"})
	if err != nil || string(compact) != string(masked) {
		t.Errorf("spaces matter: %s and %s, %v", compact, masked, err)
	}
	for _, other := range []string{`{"a":{"x":2},"b":2}`} {
		if got, _ := broker.MaskVariables(key, json.RawMessage(other), []string{"a"}); string(got) == string(masked) {
			t.Errorf("%s has the same mask", other)
		}
	}
	if broker.IsMasked(json.RawMessage(`{"$sensitive":"x","y":"z"}`)) || broker.IsMasked(json.RawMessage(`"x"`)) || broker.IsMasked(nil) {
		t.Error("something else counts as masked")
	}
}

func TestRebased(t *testing.T) {
	p := broker.Pool{Variables: json.RawMessage(`{"a":"/home/ci/pools/x","b":"/home/ci/pools","c":"/home/ci/pools-2/x","d":"at /home/ci/pools, twice: /home/ci/pools/y"}`)}
	p.Ready.Command = "test -e /home/ci/pools/z"
	got := broker.Rebased(p, "/home/ci/pools", "/srv")
	if want := `{"a":"/srv/x","b":"/srv","c":"/home/ci/pools-2/x","d":"at /srv, twice: /srv/y"}`; string(got.Variables) != want {
		t.Errorf("variables %s, want %s", got.Variables, want)
	}
	if got.Ready.Command != "test -e /srv/z" {
		t.Errorf("command %s", got.Ready.Command)
	}
	if same := broker.Rebased(p, "/", "/srv"); string(same.Variables) != string(p.Variables) {
		t.Errorf("everything begins with /: %s", same.Variables)
	}
}
