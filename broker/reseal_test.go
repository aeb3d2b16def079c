package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// sealing seals states and variables with a ring.
type sealing struct{ keys *secret.Keyring }

func (s sealing) seal(n broker.Node, text string) []byte {
	return s.keys.Seal("state", n.UID, []byte(text))
}

func (s sealing) variables(n broker.Node, text string) json.RawMessage {
	quoted, err := json.Marshal(s.seal(n, text))
	if err != nil {
		panic(err) // bytes can be told in JSON
	}
	return quoted
}

func (s sealing) values(n broker.Node, state []byte) [][]byte {
	var variables []byte
	_ = json.Unmarshal(n.Source.Variables, &variables) // none: none
	return [][]byte{variables, state, n.Identity}
}

func (s sealing) Reseal(n broker.Node, state []byte) (broker.Node, []byte, error) {
	values := s.values(n, state)
	for i, sealed := range values {
		if len(sealed) == 0 || s.keys.SealedByCurrent(sealed) {
			continue
		}
		plain, err := s.keys.Open("state", n.UID, sealed)
		if err != nil {
			return n, state, err
		}
		switch i {
		case 0:
			n.Source.Variables = s.variables(n, string(plain))
		case 1:
			state = s.seal(n, string(plain))
		default:
			n.Identity = s.seal(n, string(plain))
		}
	}
	return n, state, nil
}

func (s sealing) SealedWith(n broker.Node, state []byte) (ids []string) {
	for _, sealed := range s.values(n, state) {
		if len(sealed) > 0 && !slices.Contains(ids, s.keys.KeyOf(sealed)) {
			ids = append(ids, s.keys.KeyOf(sealed))
		}
	}
	return ids
}

// racing runs something before each change.
type racing struct {
	broker.Store

	before func()
}

// Update implements [broker.Store].
func (r racing) Update(ctx context.Context, fn func(broker.Tx) error) error {
	r.before()
	return r.Store.Update(ctx, fn)
}

// rotated gives the ring of the next start.
func rotated(t *testing.T, dir string) *secret.Keyring {
	t.Helper()
	k, err := secret.Rotate(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func update(t *testing.T, store broker.Store, fn func(broker.Tx) error) {
	t.Helper()
	if err := store.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func stateOf(t *testing.T, store broker.Store, uid string) (state []byte) {
	t.Helper()
	err := store.View(t.Context(), func(tx broker.ReadTx) (err error) {
		state, err = tx.NodeTerraform(uid)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestReseal(t *testing.T) {
	dir := t.TempDir()
	old, err := secret.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	nodes := make([]broker.Node, 4)
	for i := range nodes {
		n := broker.NewNode(testPool("small", broker.ContextualizeSSH), t0)
		n.Source.Variables = sealing{old}.variables(n, "variables")
		state := sealing{old}.seal(n, "state")
		switch i {
		case 1:
			state = nil // planned
			n.Source.Variables, n.Identity = nil, sealing{old}.seal(n, "identity")
		case 2:
			state[len(state)-1]++ // damaged
		}
		update(t, store, func(tx broker.Tx) error {
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
			return tx.SetNodeTerraform(n.UID, state)
		})
		nodes[i] = n
	}
	keys := rotated(t, dir)
	uses := func() map[string]broker.KeyUse {
		t.Helper()
		got, err := broker.KeyUses(t.Context(), store, sealing{keys}, keys.KeyOf)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	oldID, newID := old.Current().ID(), keys.Current().ID()
	if diff := cmp.Diff(map[string]broker.KeyUse{oldID: {Nodes: 4}}, uses()); diff != "" {
		t.Errorf("uses before (-want +got):\n%s", diff)
	}

	// A run ends between the look at the last node and its change: its state stays.
	changes := 0
	changed, err := broker.Reseal(t.Context(), racing{store, func() {
		if changes++; changes != 3 {
			return
		}
		update(t, store, func(tx broker.Tx) error {
			n, err := tx.Node(nodes[3].ID)
			if err != nil {
				return err
			}
			if err := broker.MoveNode(tx, &n, broker.NodeApplying, t0.Add(time.Minute), ""); err != nil {
				return err
			}
			return tx.SetNodeTerraform(n.UID, sealing{keys}.seal(n, "newer"))
		})
	}}, sealing{keys})
	if changed != 3 || err == nil || !strings.Contains(err.Error(), "node "+nodes[2].UID+": ") {
		t.Errorf("changed %d nodes, %v; want 3, and the damaged one named", changed, err)
	}
	if diff := cmp.Diff(map[string]broker.KeyUse{newID: {Nodes: 3}, oldID: {Nodes: 1}}, uses()); diff != "" {
		t.Errorf("uses after (-want +got):\n%s", diff)
	}
	for i, want := range map[int]string{0: "state", 3: "newer"} {
		got, err := keys.Open("state", nodes[i].UID, stateOf(t, store, nodes[i].UID))
		if err != nil || string(got) != want {
			t.Errorf("state of node %d: %q, %v; want %q", i, got, err, want)
		}
	}
	err = store.View(t.Context(), func(tx broker.ReadTx) error {
		planned, err := tx.Node(nodes[1].ID)
		if err != nil {
			return err
		}
		if got, err := keys.Open("state", planned.UID, planned.Identity); err != nil || string(got) != "identity" || !keys.SealedByCurrent(planned.Identity) {
			t.Errorf("identity of the planned node: %q, %v", got, err)
		}
		n, err := tx.Node(nodes[3].ID)
		if n.State != broker.NodeApplying || !n.Since.Equal(t0.Add(time.Minute)) {
			t.Errorf("the node of the run is %s since %v", n.State, n.Since)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := broker.Reseal(t.Context(), store, sealing{keys}); changed != 0 || err == nil {
		t.Errorf("the second time %d nodes were changed, %v", changed, err)
	}
}

func TestResealWritesOnlyWhatChanges(t *testing.T) {
	keys, err := secret.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	n := broker.NewNode(testPool("small", broker.ContextualizeSSH), t0)
	update(t, store, func(tx broker.Tx) error {
		if err := tx.CreateNode(&n); err != nil {
			return err
		}
		return tx.SetNodeTerraform(n.UID, sealing{keys}.seal(n, "state"))
	})
	if changed, err := broker.Reseal(t.Context(), readOnly{store}, sealing{keys}); changed != 0 || err != nil {
		t.Errorf("changed %d nodes, %v", changed, err)
	}
}

var errReadOnly = errors.New("read-only")

// readOnly is a store that refuses changes.
type readOnly struct{ broker.Store }

// Update refuses.
func (readOnly) Update(context.Context, func(broker.Tx) error) error { return errReadOnly }

// After a rotation tenants log in with the API keys that they have, and from then
// on do without the old root key.
func TestLoginAfterARotation(t *testing.T) {
	dir := t.TempDir()
	old, err := secret.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	open := func(store broker.Store, keys broker.KeyHasher) *broker.Broker {
		b := broker.New(broker.Config{Store: store, Keys: keys, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return t0 }})
		if _, err := b.Identity(t.Context()); err != nil && !errors.Is(err, errReadOnly) {
			t.Error(err)
		}
		return b
	}
	b := open(store, old)
	names := []string{"admin", "demo", "idle", "gone"}
	for i, name := range names {
		tenant := broker.Tenant{Name: name, IsAdmin: i == 0}
		if name == "gone" {
			tenant.RetiredAt = t0
		}
		if err := b.CreateTenants(t.Context(), broker.NewTenant{Tenant: tenant, APIKey: "key of " + name}); err != nil {
			t.Fatal(err)
		}
	}
	admin, err := b.Authenticate(t.Context(), "admin", "key of admin")
	if err != nil {
		t.Fatal(err)
	}
	const legacy = "0123456789abcdef"
	if _, _, err := b.AddLegacyKey(t.Context(), admin, 2, legacy, ""); err != nil {
		t.Fatal(err)
	}

	keys := rotated(t, dir)
	uses := func() map[string]broker.KeyUse {
		t.Helper()
		got, err := broker.KeyUses(t.Context(), store, sealing{keys}, keys.KeyOf)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	oldID, newID := old.Current().ID(), keys.Current().ID()
	// A store that takes no changes keeps nobody out.
	if _, err := open(readOnly{store}, keys).Authenticate(t.Context(), "demo", "key of demo"); err != nil {
		t.Errorf("with a store that takes no changes: %v", err)
	}
	b = open(store, keys)
	if diff := cmp.Diff(map[string]broker.KeyUse{oldID: {APIKeys: 4}}, uses()); diff != "" {
		t.Errorf("uses before (-want +got):\n%s", diff)
	}
	for range 2 {
		for _, name := range names[:2] {
			if _, err := b.Authenticate(t.Context(), name, "key of "+name); err != nil {
				t.Errorf("%s can't log in: %v", name, err)
			}
			if _, err := b.Authenticate(t.Context(), name, "guess"); broker.CodeOf(err) != broker.CodeUnauthorized {
				t.Errorf("%s logs in with a guess: %v", name, err)
			}
		}
		if got, err := b.AuthenticateLegacy(t.Context(), legacy, broker.LegacyCall{}); err != nil || got.Name != "demo" {
			t.Errorf("the legacy key belongs to %q, %v", got.Name, err)
		}
	}
	if diff := cmp.Diff(map[string]broker.KeyUse{newID: {APIKeys: 3}, oldID: {APIKeys: 1}}, uses()); diff != "" {
		t.Errorf("uses after the logins (-want +got):\n%s", diff)
	}

	// Without the old key those who had logged in are known, and the other is not.
	alone, err := secret.OpenWith(t.TempDir(), keys.Current())
	if err != nil {
		t.Fatal(err)
	}
	b = open(store, alone)
	for name, want := range map[string]broker.Code{"admin": "", "demo": "", "idle": broker.CodeUnauthorized} {
		if _, err := b.Authenticate(t.Context(), name, "key of "+name); broker.CodeOf(err) != want {
			t.Errorf("%s without the old key: %v, want code %q", name, err, want)
		}
	}
	if _, err := b.AuthenticateLegacy(t.Context(), legacy, broker.LegacyCall{}); err != nil {
		t.Errorf("the legacy key without the old key: %v", err)
	}
}
