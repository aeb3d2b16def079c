package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/api/contract"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

type plainKeys struct{}

func (plainKeys) HashAPIKey(key string) []byte  { h := sha256.Sum256([]byte(key)); return h[:] }
func (plainKeys) CurrentAPIKeyHash([]byte) bool { return true }
func (k plainKeys) EqualAPIKey(key string, hash []byte) bool {
	return bytes.Equal(hash, k.HashAPIKey(key))
}

// recordedKeys are the keys of the tenants in the recording, by name. Their
// order is that of the ids.
var recordedKeys = []struct{ name, key string }{
	{"admin", "ae6c10d0-0b13-554c-b976-a05d8a18f0cc"},
	{"tenant", "a8b9899d-b128-59a1-aa86-754920b7f5ed"},
	{"other", "3ffa3ad3-369c-52e0-ac06-8ca10a7cd909"},
	{"retired", "75aaede1-b573-50c4-a587-177a08c95aa5"},
	{"bench", "eea5c633-aea3-5fb5-bbad-7ad68586e050"},
	{"legacy", "4140e563-278f-5432-bc48-55c08191fbac"},
}

// recordedQuotas are the quotas of those that have one of their own.
var recordedQuotas = map[string]int{"other": 2, "bench": 1000000, "legacy": 50}

// recordedPools are the pools of the recording, with their fill levels and with
// the stock at its start. Its two pools for measuring have stock that nobody took.
var recordedPools = []struct {
	name        string
	fill, ready int
}{
	{"virtual-centos9stream-x86_64-small", 5, 40},
	{"virtual-centos9stream-x86_64-large", 1, 5},
	{"physical-centos7-x86_64", 2, 20},
	{"physical-centos8stream-x86_64", 2, 20},
	{"empty-pool", 1, 0},
	{"refill-pool", 3, 3},
	{"bench", 1, 0},
	{"bench-ansible", 1, 0},
}

// goodReload is a reload without mistakes.
type goodReload struct{}

func (goodReload) Reload(_ context.Context, by, _ string) (broker.Reload, error) {
	return broker.Reload{By: by}, nil
}
func (goodReload) LastReload() broker.Reload { return broker.Reload{} }

// recordedWorld is a real broker in the state in which the recording begins.
type recordedWorld struct {
	*broker.Broker
	store broker.Store
	cloud *brokertest.Cloud
	pools *broker.PoolSet
	loop  atomic.Pointer[reconcile.Loop] // nil: nothing happens but what is asked for
}

func newRecordedBroker(t testing.TB) *broker.Broker {
	t.Helper()
	now := time.Date(2026, 11, 23, 17, 32, 29, 383593000, time.UTC)
	var mu sync.Mutex
	return newRecordedWorld(t, new(brokertest.Cloud), func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second + 7*time.Microsecond)
		return now
	}).Broker
}

// newRecordedWorld makes it, with these tenants of the recording, or with all.
func newRecordedWorld(t testing.TB, cloud *brokertest.Cloud, clock func() time.Time, tenants ...string) *recordedWorld {
	t.Helper()
	w := &recordedWorld{store: memory.New(), cloud: cloud, pools: new(broker.PoolSet)}
	var pools []broker.Pool
	for _, p := range recordedPools {
		pools = append(pools, broker.Pool{
			Name: p.name, FillLevel: p.fill, MaxNodes: 100, Concurrency: 4, Contextualize: broker.ContextualizeSSH,
			Ready: broker.ReadyCheck{SSH: true, Timeout: time.Minute}, Source: broker.Source{Template: "t", Generation: "g1"},
		})
	}
	w.pools.Set(pools)
	w.Broker = broker.New(broker.Config{
		Store: w.store, Contextualizer: cloud, Keys: plainKeys{}, Pools: w.pools, Log: slog.New(slog.DiscardHandler), Workspaces: make(desks),
		Now: clock, Wake: func() {
			if loop := w.loop.Load(); loop != nil {
				loop.Wake()
			}
		}, Reloader: goodReload{},
	})
	ctx, now := context.Background(), clock()
	for _, r := range recordedKeys {
		if len(tenants) > 0 && !slices.Contains(tenants, r.name) {
			continue
		}
		tenant := broker.Tenant{Name: r.name, IsAdmin: r.name == "admin", SSHKey: "ssh-ed25519 AAAA" + r.name}
		if quota, ok := recordedQuotas[r.name]; ok {
			tenant.NodeQuota = &quota
		}
		if r.name == "retired" {
			tenant.RetiredAt = now
		}
		if err := w.CreateTenants(ctx, broker.NewTenant{Tenant: tenant, APIKey: r.key}); err != nil {
			t.Fatal(err)
		}
	}
	err := w.store.Update(ctx, func(tx broker.Tx) error {
		serial := 0
		for i, p := range recordedPools {
			for range p.ready {
				serial++
				n := broker.NewNode(pools[i], now)
				n.State = broker.NodeReady
				n.Hostname = fmt.Sprintf("n%d.%s.example.net", serial, p.name)
				n.Address = fmt.Sprintf("127.10.0.%d", serial+1)
				n.Data = fmt.Appendf(nil, `{"serial": %d}`, serial)
				if err := tx.CreateNode(&n); err != nil {
					return err
				}
				if _, err := cloud.Apply(ctx, n); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func recordedAuth(t testing.TB, role string) func(*http.Request) {
	t.Helper()
	basic := func(plain string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(plain)))
		}
	}
	for _, r := range recordedKeys {
		if r.name == role {
			return basic(r.name + ":" + r.key)
		}
	}
	switch role {
	case "anonymous":
		return func(*http.Request) {}
	case "scheme 'basic' in lower case":
		return func(r *http.Request) {
			r.Header.Set("Authorization", "basic "+base64.StdEncoding.EncodeToString([]byte("tenant:"+recordedKeys[1].key)))
		}
	case "t1", "t1 with the key just set", "t1, retired":
		return basic("t1:11111111-1111-4111-8111-111111111111")
	case "wrong key for tenant":
		return basic("tenant:" + broker.NewUUID())
	case "right key in upper case":
		return basic("tenant:" + strings.ToUpper(recordedKeys[1].key))
	case "retired tenant, wrong key":
		return basic("retired:" + broker.NewUUID())
	case "no colon":
		return basic("tenant")
	case "non-ASCII credentials":
		return basic("tenänt:key")
	case "bad base64":
		return func(r *http.Request) { r.Header.Set("Authorization", "Basic ###") }
	case "Bearer scheme":
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+recordedKeys[1].key) }
	}
	t.Fatalf("unknown role %q", role)
	return nil
}

// checked makes requests that count as those of send: every answer is held
// against the document.
type checked struct {
	t         *testing.T
	transport http.Transport
}

func newChecked(t *testing.T) *checked {
	return &checked{t, http.Transport{DisableKeepAlives: true, DisableCompression: true}}
}

// RoundTrip implements [http.RoundTripper].
func (c *checked) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	checkAnswer(c.t, req.Method, req.URL.Path, answerSeen{resp.StatusCode, resp.Header, string(body)})
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// recordedServer is a server as the recording had it, for replays.
func recordedServer(t *testing.T, url string) contract.Server {
	t.Helper()
	seed, err := contract.RecordedSeed()
	if err != nil {
		t.Fatal(err)
	}
	return contract.Server{URL: url, Seed: seed, Strict: true, Transport: newChecked(t)}
}

func newReplayer(t *testing.T, s contract.Server) *contract.Replayer {
	t.Helper()
	r, err := contract.NewReplayer(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func recorded(t *testing.T, part contract.Part) []contract.Exchange {
	t.Helper()
	list, err := contract.Recorded(part)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// replay holds a broker to every case of a recording: where a difference is
// wanted, to that.
func replay(t *testing.T, r *contract.Replayer, part contract.Part) {
	t.Helper()
	for _, e := range recorded(t, part) {
		t.Run(fmt.Sprintf("%s/%03d_%s", part, e.N, e.Case), func(t *testing.T) {
			switch v := r.Do(t.Context(), e); v.Outcome {
			case contract.Different:
				t.Error(v.Diff)
			case contract.Skipped:
				t.Skip(v.Reason)
			case contract.Same:
				if why := contract.Wanted(e); why != "" {
					t.Errorf("answered as Duffy does, but: %s", why)
				}
			case contract.Allowed:
				if v.Depends {
					t.Errorf("the recorded answer was to be had: %s", v.Reason)
				}
			}
		})
	}
}

// TestDuffy replays the recordings of Duffy v3's two APIs, one after the other
// against one broker, with its real domain on a store in memory.
func TestDuffy(t *testing.T) {
	b := newRecordedBroker(t)
	admin := broker.Tenant{Name: "admin", IsAdmin: true}
	for i, r := range recordedKeys {
		if _, _, err := b.AddLegacyKey(t.Context(), admin, int64(i+1), r.key, ""); err != nil {
			t.Fatal(err)
		}
	}
	r := newReplayer(t, recordedServer(t, start(t, Config{Broker: b, AnonymousRead: true, Legacy: recordedLegacy})))
	replay(t, r, contract.V1)
	replay(t, r, contract.Legacy)
}

// TestDuffy_closed replays against a broker with its own defaults: no list is
// open, and too few nodes are told in plain text.
func TestDuffy_closed(t *testing.T) {
	r := newReplayer(t, recordedServer(t, start(t, Config{Broker: newRecordedBroker(t)})))
	reasons := make(map[string]int)
	for _, e := range recorded(t, contract.V1) {
		v := r.Do(t.Context(), e)
		reasons[v.Reason]++
		if v.Outcome == contract.Different {
			t.Errorf("%s: %s", e.Case, v.Diff)
		}
	}
	if got := reasons["lists need a login, unless anonymous_read is on"]; got != 8 {
		t.Errorf("%d lists needed a login, want 8", got)
	}
}

// TestDuffy_record: what a broker answers is recorded, and replayed against
// another, whose tenants are made for it and have other ids, it is all the same.
func TestDuffy_record(t *testing.T) {
	serve := func(w *recordedWorld) contract.Server {
		return recordedServer(t, start(t, Config{Broker: w, AnonymousRead: true, Legacy: recordedLegacy}))
	}
	all := append(recorded(t, contract.V1), recorded(t, contract.Legacy)...)
	var text bytes.Buffer
	{
		s := serve(newRecordedWorld(t, new(brokertest.Cloud), time.Now, "admin"))
		if err := contract.Prepare(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		seen, err := newReplayer(t, s).Record(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		if err := contract.Write(&text, seen); err != nil {
			t.Fatal(err)
		}
	}
	recording, err := contract.Read(&text)
	if err != nil || len(recording) < 195 {
		t.Fatalf("%d exchanges, %v", len(recording), err)
	}
	w := newRecordedWorld(t, new(brokertest.Cloud), time.Now, "admin", "bench")
	err = w.store.Update(t.Context(), func(tx broker.Tx) error { // so that its sessions have other ids, too
		return tx.CreateSession(&broker.Session{TenantID: 1, State: broker.SessionRetired})
	})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(w)
	if err := contract.Prepare(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	r := newReplayer(t, s)
	for _, e := range recording {
		if v := r.Do(t.Context(), e); v.Outcome != contract.Same {
			t.Errorf("%s: %s %s%s", e.Case, v.Outcome, v.Reason, v.Diff)
		}
	}
}

// TestDuffy_contextFails replays the recording that needs nodes which refuse SSH.
// No node is stranded: once SSH works again there is stock, and nothing else.
func TestDuffy_contextFails(t *testing.T) {
	var refusing atomic.Bool
	refusing.Store(true)
	cloud := &brokertest.Cloud{Fail: func(op string, _ broker.Node) error {
		if op == "contextualize" && refusing.Load() {
			return errors.New("ssh: unable to authenticate")
		}
		return nil
	}}
	w := newRecordedWorld(t, cloud, time.Now)
	loop := reconcile.New(reconcile.Config{
		Store: w.store, Provisioner: cloud, Contextualizer: cloud, Pools: w.pools,
		Serving: w.Serving, Unmet: w.Unmet, Runs: 8, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	w.loop.Store(loop)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { loop.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })

	r := newReplayer(t, recordedServer(t, start(t, Config{Broker: w, AnonymousRead: true})))
	replay(t, r, contract.ContextFail)

	refusing.Store(false)
	session := broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "virtual-centos9stream-x86_64-small", Quantity: 2}}}
	deadline := time.Now().Add(time.Minute)
	for lent := false; ; time.Sleep(20 * time.Millisecond) {
		var err error
		if !lent {
			_, err = w.RequestSession(t.Context(), broker.Tenant{ID: 2, Name: "tenant"}, session)
			lent = err == nil
		}
		stranded := w.stranded(t)
		if lent && stranded == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a session once SSH works again: %v; stranded: %s", err, stranded)
		}
	}
}

// stranded tells of nodes that are neither stock nor lent, and of machines that
// no node stands for.
func (w *recordedWorld) stranded(t *testing.T) string {
	t.Helper()
	var uids []string
	var bad []string
	err := w.store.View(t.Context(), func(tx broker.ReadTx) error {
		uids, bad = nil, nil
		nodes, err := tx.Nodes(broker.NodeQuery{})
		for _, n := range nodes {
			switch {
			case n.State == broker.NodeGone:
				continue
			case n.State == broker.NodeReady && n.SessionID == 0, n.State == broker.NodeDeployed && n.SessionID != 0:
			default:
				bad = append(bad, fmt.Sprintf("node %d is %s", n.ID, n.State))
			}
			uids = append(uids, n.UID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(uids)
	if diff := cmp.Diff(uids, w.cloud.Machines()); diff != "" {
		bad = append(bad, "machines (-nodes +machines): "+diff)
	}
	return strings.Join(bad, "; ")
}

func decoded(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}
