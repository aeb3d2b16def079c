package broker_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/store/fault"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// plainKeys hashes without a key: enough where no secret is at stake.
type plainKeys struct{}

func (plainKeys) HashAPIKey(key string) []byte  { h := sha256.Sum256([]byte(key)); return h[:] }
func (plainKeys) CurrentAPIKeyHash([]byte) bool { return true }
func (k plainKeys) EqualAPIKey(key string, hash []byte) bool {
	return bytes.Equal(hash, k.HashAPIKey(key))
}

// world is a broker with stock, and the truth behind it.
type world struct {
	t     testing.TB
	store broker.Store
	fault *fault.Store
	cloud *brokertest.Cloud
	pools *broker.PoolSet
	b     *broker.Broker

	admin, demo, other broker.Tenant
}

func testPool(name string, mode broker.ContextualizeMode) broker.Pool {
	return broker.Pool{
		Name: name, FillLevel: 5, MaxNodes: 50, Concurrency: 4, Contextualize: mode,
		Ready: broker.ReadyCheck{SSH: true, Timeout: time.Minute}, Source: broker.Source{Generation: "g1"},
	}
}

// newWorld has stock ready nodes in each of the pools small, large (by SSH) and
// plain (no key), and the tenants admin, demo and other (quota 2).
func newWorld(t testing.TB, stock int) *world {
	t.Helper()
	w := &world{t: t, cloud: new(brokertest.Cloud)}
	w.fault = fault.New(memory.New())
	w.store = w.fault
	pools := new(broker.PoolSet)
	pools.Set([]broker.Pool{
		testPool("small", broker.ContextualizeSSH), testPool("large", broker.ContextualizeSSH), testPool("plain", broker.ContextualizeNone),
	})
	w.pools = pools
	w.b = broker.New(broker.Config{
		Store: w.store, Contextualizer: w.cloud, Keys: plainKeys{}, Pools: pools, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return t0 }, Wake: func() {},
	})
	ctx := context.Background()
	two := 2
	err := w.b.CreateTenants(ctx,
		broker.NewTenant{Tenant: broker.Tenant{Name: "admin", IsAdmin: true, SSHKey: "key of admin"}, APIKey: "a"},
		broker.NewTenant{Tenant: broker.Tenant{Name: "demo", SSHKey: "key of demo"}, APIKey: "d"},
		broker.NewTenant{Tenant: broker.Tenant{Name: "other", SSHKey: "key of other", NodeQuota: &two}, APIKey: "o"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, tenant := range map[string]*broker.Tenant{"a": &w.admin, "d": &w.demo, "o": &w.other} {
		full := map[string]string{"a": "admin", "d": "demo", "o": "other"}[name]
		if *tenant, err = w.b.Authenticate(ctx, full, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range pools.All() {
		for range stock {
			w.addReady(p)
		}
	}
	return w
}

func (w *world) addReady(p broker.Pool) broker.Node {
	w.t.Helper()
	ctx := context.Background()
	n := broker.NewNode(p, t0)
	err := w.store.Update(ctx, func(tx broker.Tx) error {
		n.ID = 0
		n.State = broker.NodePlanned
		if err := tx.CreateNode(&n); err != nil {
			return err
		}
		result, err := w.cloud.Apply(ctx, n)
		if err != nil {
			return err
		}
		n.Outputs = result.Outputs
		n.HostKeys = []string{brokertest.HostKey}
		for _, next := range []broker.NodeState{broker.NodeApplying, broker.NodeChecking, broker.NodeReady} {
			if err := broker.MoveNode(tx, &n, next, t0, ""); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func want(specs ...any) broker.SessionRequest {
	var req broker.SessionRequest
	for i := 0; i < len(specs); i += 2 {
		req.Specs = append(req.Specs, broker.NodesSpec{Pool: specs[i].(string), Quantity: specs[i+1].(int)})
	}
	return req
}

// states counts all nodes by state.
func (w *world) states() map[broker.NodeState]int {
	w.t.Helper()
	counts := map[broker.NodeState]int{}
	err := w.store.View(context.Background(), func(tx broker.ReadTx) error {
		nodes, err := tx.Nodes(broker.NodeQuery{})
		for _, n := range nodes {
			counts[n.State]++
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return counts
}

// checkLinks proves the invariant that a node is in at most one active session,
// and that a session's nodes and the nodes' session agree.
func (w *world) checkLinks() {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx broker.ReadTx) error {
		sessions, err := tx.Sessions(broker.SessionQuery{})
		if err != nil {
			return err
		}
		holder := map[int64]int64{}
		for _, s := range sessions {
			if s.State != broker.SessionActive && s.State != broker.SessionPreparing {
				continue
			}
			for _, lent := range s.Nodes {
				if other, taken := holder[lent.ID]; taken {
					w.t.Errorf("node %d is in sessions %d and %d", lent.ID, other, s.ID)
				}
				holder[lent.ID] = s.ID
			}
		}
		nodes, err := tx.Nodes(broker.NodeQuery{States: []broker.NodeState{broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed}})
		for _, n := range nodes {
			if holder[n.ID] != n.SessionID || n.SessionID == 0 {
				w.t.Errorf("node %d is %s for session %d, and session %d holds it", n.ID, n.State, n.SessionID, holder[n.ID])
			}
			delete(holder, n.ID)
		}
		for id, s := range holder {
			w.t.Errorf("session %d holds node %d, which is not lent", s, id)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestRequestSession(t *testing.T) {
	w := newWorld(t, 3)
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 2, "large", 1, "plain", 1))
	if err != nil {
		t.Fatal(err)
	}
	if s.State != broker.SessionActive || len(s.Nodes) != 4 || s.TenantID != w.demo.ID || !s.ExpiresAt.Equal(t0.Add(6*time.Hour)) {
		t.Errorf("got session %+v", s)
	}
	nodes, err := w.b.Nodes(t.Context(), w.demo)
	if err != nil || len(nodes) != 4 {
		t.Fatalf("the tenant sees %d nodes, %v; want 4", len(nodes), err)
	}
	for _, n := range nodes {
		wantKey := "key of demo"
		if n.Pool == "plain" {
			wantKey = ""
		}
		if n.State != broker.NodeDeployed || w.cloud.Keys(n.UID) != wantKey {
			t.Errorf("node %d of %s is %s with key %q, want deployed with %q", n.ID, n.Pool, n.State, w.cloud.Keys(n.UID), wantKey)
		}
	}
	if got := w.states(); got[broker.NodeReady] != 5 || got[broker.NodeDeployed] != 4 {
		t.Errorf("states %v", got)
	}
	// The oldest nodes go first.
	if s.Nodes[0].ID != 1 || s.Nodes[1].ID != 2 {
		t.Errorf("got nodes %d and %d of the pool, want the oldest, 1 and 2", s.Nodes[0].ID, s.Nodes[1].ID)
	}
	w.checkLinks()
}

func TestRequestSessionRefused(t *testing.T) {
	foreign, unknown := int64(3), int64(99)
	tests := []struct {
		name    string
		actor   func(*world) broker.Tenant
		req     broker.SessionRequest
		code    broker.Code
		message string
	}{
		{"no specs", nil, want(), broker.CodeInvalid, "nodes_specs is empty"},
		{"no quantity", nil, want("small", 0), broker.CodeInvalid, "quantity must be at least 1: quantity=0 pool='small'"},
		{"unknown pool", nil, want("nope", 1), broker.CodeCapacity, "can't reserve nodes: quantity=1 pool='nope'"},
		{"not enough", nil, want("small", 4), broker.CodeCapacity, "can't reserve nodes: quantity=4 pool='small'"},
		{"one is, one is not", nil, want("small", 1, "large", 4), broker.CodeCapacity, "can't reserve nodes: quantity=4 pool='large'"},
		{"same pool twice, together too much", nil, want("small", 2, "small", 2), broker.CodeCapacity, "can't reserve nodes: quantity=2 pool='small'"},
		{"quota", nil, want("small", 11), broker.CodeQuota, "quota exceeded: requested nodes (11) + current allocation (0) = 11 > 10"},
		{"one quantity beyond the integers", nil, want("small", int(^uint(0)>>1)), broker.CodeQuota, "quota exceeded"},
		{"quota beyond the integers", nil, want("small", int(^uint(0)>>1), "small", int(^uint(0)>>1)), broker.CodeQuota, "quota exceeded"},
		{"own quota", func(w *world) broker.Tenant { return w.other }, want("small", 3), broker.CodeQuota, "quota exceeded: requested nodes (3) + current allocation (0) = 3 > 2"},
		{"for another tenant", nil, broker.SessionRequest{TenantID: &foreign, Specs: want("small", 1).Specs}, broker.CodeForbidden, "can't create session for other tenant"},
		{
			"for nobody", func(w *world) broker.Tenant { return w.admin },
			broker.SessionRequest{TenantID: &unknown, Specs: want("small", 1).Specs},
			broker.CodeInvalid, "can't find tenant with id 99",
		},
		{
			"the target's quota counts", func(w *world) broker.Tenant { return w.admin },
			broker.SessionRequest{TenantID: &foreign, Specs: want("small", 3).Specs},
			broker.CodeQuota, "quota exceeded: requested nodes (3) + current allocation (0) = 3 > 2",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 3)
			actor := w.demo
			if test.actor != nil {
				actor = test.actor(w)
			}
			_, err := w.b.RequestSession(t.Context(), actor, test.req)
			if broker.CodeOf(err) != test.code || !strings.Contains(broker.MessageOf(err), test.message) {
				t.Errorf("got %s: %v, want %s: %s", broker.CodeOf(err), err, test.code, test.message)
			}
			if got := w.states(); got[broker.NodeReady] != 9 {
				t.Errorf("nodes were taken: %v", got)
			}
		})
	}
}

// Whatever runs at once, the quota holds and no node is lent twice.
func TestRequestSessionAtOnce(t *testing.T) {
	w := newWorld(t, 20)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			_, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1, "large", 1))
			if err != nil && broker.CodeOf(err) != broker.CodeQuota {
				t.Errorf("got %v, want success or a quota error", err)
			}
		})
	}
	wg.Wait()
	if got := w.states(); got[broker.NodeDeployed] != broker.DefaultNodeQuota {
		t.Errorf("%d nodes are lent, want the quota of %d", got[broker.NodeDeployed], broker.DefaultNodeQuota)
	}
	w.checkLinks()
}

// The defect of Duffy v3 that leaked the good nodes of a session with a bad one.
func TestBadNodesAreReplaced(t *testing.T) {
	w := newWorld(t, 4)
	bad := map[int64]bool{1: true, 3: true} // the first, and the first spare
	w.cloud.Fail = func(op string, n broker.Node) error {
		if op == "contextualize" && bad[n.ID] {
			return errors.New("connection refused")
		}
		return nil
	}
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 2))
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, lent := range s.Nodes {
		got = append(got, lent.ID)
	}
	if diff := cmp.Diff([]int64{2, 4}, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if got := w.states(); got[broker.NodeFailed] != 2 || got[broker.NodeDeployed] != 2 {
		t.Errorf("states %v, want 2 failed and 2 deployed", got)
	}
	w.checkLinks()
}

func TestNoSpareLeft(t *testing.T) {
	w := newWorld(t, 2)
	w.cloud.Fail = func(op string, n broker.Node) error {
		if op == "contextualize" && n.ID == 1 {
			return errors.New("connection refused")
		}
		return nil
	}
	_, err := w.b.RequestSession(t.Context(), w.demo, want("small", 2, "plain", 1))
	if broker.CodeOf(err) != broker.CodeUnavailable || broker.MessageOf(err) != "contextualization of nodes failed" || broker.HintOf(err) == "" {
		t.Errorf("got %v, want unavailable with a hint", err)
	}
	got := w.states()
	// The bad one failed; the good ones are cleaned and checked, and return to stock.
	if diff := cmp.Diff(map[broker.NodeState]int{broker.NodeFailed: 1, broker.NodeChecking: 1, broker.NodeReady: 3, broker.NodeReleasing: 1}, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	sessions, err := w.b.Sessions(t.Context(), w.admin)
	if err != nil || len(sessions) != 0 {
		t.Errorf("sessions %v, %v; want none", sessions, err)
	}
	if _, err := w.b.Session(t.Context(), w.admin, 1); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("an abandoned session is shown: %v", err)
	}
	w.checkLinks()
	nodes, err := w.b.NodesByID(t.Context(), 1, 2)
	if err != nil || nodes[2].SessionID != 0 || nodes[2].State != broker.NodeChecking {
		t.Errorf("the good node returns to stock as %+v, %v; want it in no session", nodes[2], err)
	}
}

// Ending a session takes back its own nodes only, whatever its record says.
func TestEndSessionLeavesOthersNodes(t *testing.T) {
	w := newWorld(t, 2)
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err != nil {
		t.Fatal(err)
	}
	err = w.store.Update(t.Context(), func(tx broker.Tx) error {
		stranger := broker.Session{TenantID: w.other.ID, State: broker.SessionActive, Nodes: s.Nodes}
		if err := tx.CreateSession(&stranger); err != nil {
			return err
		}
		return broker.EndSession(tx, &stranger, t0, "test")
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.states(); got[broker.NodeDeployed] != 1 {
		t.Errorf("states %v: the node of another session was taken", got)
	}
}

// A tenant whose key is no key must not cost the pool its stock.
func TestBadKeyIsNoFaultOfTheNodes(t *testing.T) {
	w := newWorld(t, 3)
	w.cloud.Fail = func(op string, _ broker.Node) error {
		if op == "contextualize" {
			return broker.Errorf(broker.CodeInvalid, "line 1 of the ssh keys is no public key")
		}
		return nil
	}
	_, err := w.b.RequestSession(t.Context(), w.demo, want("small", 2))
	if broker.CodeOf(err) != broker.CodeInvalid || !strings.Contains(broker.MessageOf(err), "no public key") {
		t.Errorf("got %v, want what is wrong with the key", err)
	}
	if got := w.states(); got[broker.NodeFailed] != 0 || got[broker.NodeChecking] != 2 {
		t.Errorf("states %v, want no node failed and the 2 on their way back to stock", got)
	}
	w.checkLinks()
}

// A client that hangs up is no fault of the nodes.
func TestClientGone(t *testing.T) {
	w := newWorld(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	w.cloud.Fail = func(op string, _ broker.Node) error {
		if op == "contextualize" {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	_, err := w.b.RequestSession(ctx, w.demo, want("small", 2))
	if broker.CodeOf(err) != broker.CodeUnavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	if got := w.states(); got[broker.NodeChecking] != 2 || got[broker.NodeFailed] != 0 {
		t.Errorf("states %v, want 2 checking", got)
	}
	if got := w.b.Serving(); len(got) != 0 {
		t.Errorf("requests in progress: %v, want none", got)
	}
	w.checkLinks()
}

func TestAbandonedByClient(t *testing.T) {
	w := newWorld(t, 2)
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 2))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // repeating it changes nothing
		if err := w.b.AbandonedByClient(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.states(); got[broker.NodeReleasing] != 2 {
		t.Errorf("states %v, want 2 releasing", got)
	}
}

// Each commit of a request fails once, before and after it is durable: no
// session is half made, and an error leaves no session that its tenant would
// pay for.
func TestStoreFailsDuringRequest(t *testing.T) {
	t.Run("ssh", func(t *testing.T) { storeFails(t, "small", 4) })
	t.Run("no ssh", func(t *testing.T) { storeFails(t, "plain", 2) })
}

// storeFails fails one commit after the other of a request for two nodes of a
// pool, which takes at least so many commits less one.
func storeFails(t *testing.T, pool string, commits int) {
	errDisk := errors.New("no space left on device")
	for _, when := range []fault.When{fault.Before, fault.After} {
		for call := 1; ; call++ {
			w := newWorld(t, 3)
			w.cloud.Fail = func(op string, n broker.Node) error {
				if op == "contextualize" && n.ID == 1 { // one replacement, so that every commit is reached
					return errors.New("connection refused")
				}
				return nil
			}
			w.fault.FailUpdate(call, when, errDisk)
			s, err := w.b.RequestSession(t.Context(), w.demo, want(pool, 2))
			w.checkLinks()
			if err == nil {
				if call < commits {
					t.Errorf("%v commit %d: the request succeeded with %+v, want the error", when, call, s)
				}
				break
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("%v commit %d: got %v", when, call, err)
			}
			if broker.MessageOf(err) != "internal error" {
				t.Errorf("a client would read %q", broker.MessageOf(err))
			}
			sessions, err := w.b.Sessions(t.Context(), w.demo)
			if err != nil {
				t.Fatal(err)
			}
			if len(sessions) != 0 {
				t.Errorf("%v commit %d: the tenant got an error and holds %d sessions", when, call, len(sessions))
			}
		}
	}
}

func TestUpdateSession(t *testing.T) {
	hour := time.Hour
	tests := []struct {
		name   string
		admin  bool
		expiry broker.Expiry
		want   time.Time
	}{
		{"later", false, broker.Expiry{Delta: hour}, t0.Add(7 * hour)},
		{"sooner", false, broker.Expiry{Delta: -hour}, t0.Add(5 * hour)},
		{"beyond the maximum", false, broker.Expiry{Delta: 7 * 24 * hour}, t0.Add(12 * hour)},
		{"absolute, beyond the maximum", false, broker.Expiry{At: t0.AddDate(60, 0, 0)}, t0.Add(12 * hour)},
		{"before the start", false, broker.Expiry{Delta: -7 * hour}, t0},
		{"absolute, before the start", false, broker.Expiry{At: t0.AddDate(-20, 0, 0)}, t0},
		{"an admin has no maximum", true, broker.Expiry{At: t0.AddDate(60, 0, 0)}, t0.AddDate(60, 0, 0)},
		{"but time has", true, broker.Expiry{At: t0.AddDate(9000, 0, 0)}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 1)
			s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
			if err != nil {
				t.Fatal(err)
			}
			actor := w.demo
			if test.admin {
				actor = w.admin
			}
			if _, err = w.b.UpdateSession(t.Context(), actor, s.ID, broker.SessionUpdate{Expires: &test.expiry}); err != nil {
				t.Fatal(err)
			}
			s, err = w.b.Session(t.Context(), w.demo, s.ID)
			if err != nil || !s.ExpiresAt.Equal(test.want) {
				t.Errorf("expires at %v, %v; want %v", s.ExpiresAt, err, test.want)
			}
		})
	}
}

func TestRetireSession(t *testing.T) {
	w := newWorld(t, 2)
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 2))
	if err != nil {
		t.Fatal(err)
	}
	retire := broker.SessionUpdate{Retire: true}
	if _, err := w.b.UpdateSession(t.Context(), w.other, s.ID, retire); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("another tenant's session: %v, want forbidden", err)
	}
	if _, err := w.b.UpdateSession(t.Context(), w.demo, 99, retire); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("an unknown session: %v, want not found", err)
	}
	later := &broker.Expiry{Delta: time.Hour}
	s, err = w.b.UpdateSession(t.Context(), w.demo, s.ID, broker.SessionUpdate{Retire: true, Expires: later})
	if err != nil || s.State != broker.SessionRetired || !s.RetiredAt.Equal(t0) || !s.ExpiresAt.Equal(t0.Add(7*time.Hour)) {
		t.Errorf("got %+v, %v; want it retired and extended", s, err)
	}
	for _, u := range []broker.SessionUpdate{retire, {}, {Expires: later}} {
		_, err := w.b.UpdateSession(t.Context(), w.demo, s.ID, u)
		if broker.CodeOf(err) != broker.CodeInvalid || broker.MessageOf(err) != fmt.Sprintf("session %d is retired", s.ID) {
			t.Errorf("%+v of a retired session: %v", u, err)
		}
	}
	if got := w.states(); got[broker.NodeReleasing] != 2 {
		t.Errorf("states %v, want 2 releasing", got)
	}
	if s, err := w.b.Session(t.Context(), w.demo, s.ID); err != nil || len(s.Nodes) != 2 {
		t.Errorf("a retired session is shown as %+v, %v; want its 2 nodes", s, err)
	}
}

func TestWhoSeesWhat(t *testing.T) {
	w := newWorld(t, 2)
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err != nil {
		t.Fatal(err)
	}
	node := s.Nodes[0].ID
	for _, test := range []struct {
		actor           broker.Tenant
		sessions, nodes int
		code            broker.Code
	}{
		{w.demo, 1, 1, ""},
		{w.other, 0, 0, broker.CodeForbidden},
		{w.admin, 1, 6, ""},
	} {
		sessions, err := w.b.Sessions(t.Context(), test.actor)
		if err != nil || len(sessions) != test.sessions {
			t.Errorf("%s sees %d sessions, %v; want %d", test.actor.Name, len(sessions), err, test.sessions)
		}
		nodes, err := w.b.Nodes(t.Context(), test.actor)
		if err != nil || len(nodes) != test.nodes {
			t.Errorf("%s sees %d nodes, %v; want %d", test.actor.Name, len(nodes), err, test.nodes)
		}
		if _, err := w.b.Session(t.Context(), test.actor, s.ID); broker.CodeOf(err) != test.code {
			t.Errorf("%s asks for the session: %v, want %q", test.actor.Name, err, test.code)
		}
		if _, err := w.b.Node(t.Context(), test.actor, node); broker.CodeOf(err) != test.code {
			t.Errorf("%s asks for the node: %v, want %q", test.actor.Name, err, test.code)
		}
	}
}

func TestPoolLevels(t *testing.T) {
	w := newWorld(t, 3)
	if _, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1)); err != nil {
		t.Fatal(err)
	}
	_, levels, err := w.b.Pool(t.Context(), "small")
	if diff := cmp.Diff(broker.PoolLevels{Ready: 2, Deployed: 1}, levels); err != nil || diff != "" {
		t.Errorf("levels (-want +got), %v:\n%s", err, diff)
	}
	if _, _, err := w.b.Pool(t.Context(), "nope"); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("an unknown pool: %v, want not found", err)
	}
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t, 0)
	gone := w.other
	gone.RetiredAt = t0
	if err := w.store.Update(t.Context(), func(tx broker.Tx) error { return tx.UpdateTenant(gone) }); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, key string
		code      broker.Code
	}{
		{"demo", "d", ""},
		{"demo", "D", broker.CodeUnauthorized},
		{"demo", "", broker.CodeUnauthorized},
		{"nobody", "d", broker.CodeUnauthorized},
		{"other", "o", broker.CodeForbidden},
		{"other", "x", broker.CodeUnauthorized},
	} {
		if _, err := w.b.Authenticate(t.Context(), test.name, test.key); broker.CodeOf(err) != test.code {
			t.Errorf("%s with %q: %v, want %q", test.name, test.key, err, test.code)
		}
	}
}

// No state is a dead end: every one but the last leads to the end.
func TestNodeStatesLeadToGone(t *testing.T) {
	for _, state := range broker.NodeStates() {
		reached := map[broker.NodeState]bool{state: true}
		for grown := true; grown; {
			grown = false
			for _, s := range slices.Collect(maps.Keys(reached)) {
				for _, next := range s.Next() {
					grown = grown || !reached[next]
					reached[next] = true
				}
			}
		}
		if !reached[broker.NodeGone] {
			t.Errorf("%s never leads to %s", state, broker.NodeGone)
		}
		if state.IsTerminal() != (state == broker.NodeGone) {
			t.Errorf("%s is a dead end", state)
		}
		if state.Wire() == string(state) && state != broker.NodeReady && state != broker.NodeContextualizing && state != broker.NodeDeployed && state != broker.NodeFailed {
			t.Errorf("%s has no word on the wire", state)
		}
	}
}

// Keys that are not those of the store would make every API key wrong and every
// state unreadable: that is said at once.
func TestIdentityKnowsItsKeys(t *testing.T) {
	store := memory.New()
	open := func(keys broker.KeyHasher) (broker.Identity, error) {
		return broker.New(broker.Config{Store: store, Keys: keys, Now: func() time.Time { return t0 }}).Identity(t.Context())
	}
	first, err := open(plainKeys{})
	if err != nil || first.ID == "" {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := open(plainKeys{}); err != nil || again.ID != first.ID {
		t.Errorf("the second time it is %+v, %v", again, err)
	}
	if _, err := open(otherKeys{}); broker.CodeOf(err) != broker.CodeConflict || !strings.Contains(broker.HintOf(err), "backup") {
		t.Errorf("with other keys: %v, want a conflict with a hint", err)
	}
}

// otherKeys hashes as a broker with another root key does.
type otherKeys struct{}

func (otherKeys) CurrentAPIKeyHash([]byte) bool { return true }
func (otherKeys) HashAPIKey(key string) []byte  { return plainKeys{}.HashAPIKey("other " + key) }
func (k otherKeys) EqualAPIKey(key string, hash []byte) bool {
	return bytes.Equal(hash, k.HashAPIKey(key))
}

func TestErrorText(t *testing.T) {
	cause := errors.New("password=hunter2")
	err := fmt.Errorf("outer: %w", broker.Wrap(broker.CodeUnavailable, cause, "node 3 is down").WithHint("wait"))
	if broker.MessageOf(err) != "node 3 is down" || broker.HintOf(err) != "wait" || broker.CodeOf(err) != broker.CodeUnavailable || !errors.Is(err, cause) {
		t.Errorf("got %q, %q, %q", broker.MessageOf(err), broker.HintOf(err), broker.CodeOf(err))
	}
	internal := broker.Wrap(broker.CodeInternal, cause, "opening /var/lib/x")
	if broker.MessageOf(internal) != "internal error" || broker.MessageOf(cause) != "internal error" || broker.HintOf(internal) != "" {
		t.Error("an internal error would be shown to clients")
	}
	if broker.CodeOf(nil) != "" || broker.CodeOf(&broker.TransitionError{}) != broker.CodeConflict {
		t.Error("wrong codes")
	}
}

// A pool may be for some tenants only.
func TestPoolForSomeTenants(t *testing.T) {
	w := newWorld(t, 4)
	pools := new(broker.PoolSet)
	small, none := testPool("small", broker.ContextualizeSSH), testPool("large", broker.ContextualizeSSH)
	small.Tenants, none.Tenants = []string{"other", "third"}, []string{}
	pools.Set([]broker.Pool{small, none, testPool("plain", broker.ContextualizeNone)})
	w.b = broker.New(broker.Config{
		Store: w.store, Contextualizer: w.cloud, Keys: plainKeys{}, Pools: pools, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return t0 }, Wake: func() {},
	})
	for _, test := range []struct {
		tenant broker.Tenant
		pools  []string
		code   broker.Code
	}{
		{w.other, []string{"small"}, ""},
		{w.other, []string{"large"}, broker.CodeForbidden},
		{w.demo, []string{"small"}, broker.CodeForbidden},
		{w.demo, []string{"plain", "small"}, broker.CodeForbidden},
		{w.demo, []string{"plain"}, ""},
		{w.admin, []string{"small", "large"}, ""},
	} {
		var req broker.SessionRequest
		for _, p := range test.pools {
			req.Specs = append(req.Specs, broker.NodesSpec{Pool: p, Quantity: 1})
		}
		_, err := w.b.RequestSession(t.Context(), test.tenant, req)
		if broker.CodeOf(err) != test.code {
			t.Errorf("%s asks for %v: %v, want %q", test.tenant.Name, test.pools, err, test.code)
		}
	}
	_, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err == nil || err.Error() != "tenant 'demo' may not use pool 'small'" {
		t.Errorf("refusal: %v", err)
	}
}
