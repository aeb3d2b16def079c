package reconcile_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

type noKeys struct{}

func (noKeys) CurrentAPIKeyHash([]byte) bool            { return true }
func (noKeys) HashAPIKey(key string) []byte             { return []byte(key) }
func (noKeys) EqualAPIKey(key string, hash []byte) bool { return string(hash) == key }

// world is a broker with its loop, on a cloud that is scripted.
type world struct {
	t     rapid.TB
	store broker.Store
	cloud *brokertest.Cloud
	pools *broker.PoolSet
	b     *broker.Broker
	admin broker.Tenant
	runs  int // Terraform runs at once

	provisioner broker.Provisioner
	outlook     broker.Outlook // may be nil

	loop     *reconcile.Loop
	stopLoop func()
}

func testPool(name string, fill, maximum int) broker.Pool {
	return broker.Pool{
		Name: name, FillLevel: fill, MaxNodes: maximum, Concurrency: 4, Contextualize: broker.ContextualizeSSH,
		Ready: broker.ReadyCheck{SSH: true, Timeout: time.Minute}, Source: broker.Source{Template: "t", Generation: "g1"},
	}
}

func newWorld(t rapid.TB, cloud *brokertest.Cloud, pools ...broker.Pool) *world {
	w := &world{t: t, store: memory.New(), cloud: cloud, provisioner: cloud, runs: 8, pools: new(broker.PoolSet)}
	w.pools.Set(pools)
	return w
}

// start runs a new process: nothing but store and cloud is left of an old one.
func (w *world) start() {
	var loop *reconcile.Loop
	w.b = broker.New(broker.Config{
		Store: w.store, Contextualizer: w.cloud, Keys: noKeys{}, Pools: w.pools, Log: slog.New(slog.DiscardHandler),
		Now: time.Now, Wake: func() { loop.Wake() }, Outlook: w.outlook,
	})
	loop = reconcile.New(reconcile.Config{
		Store: w.store, Provisioner: w.provisioner, Contextualizer: w.cloud, Pools: w.pools,
		Serving: w.b.Serving, Unmet: w.b.Unmet, Runs: w.runs, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		ObservePass: func(p reconcile.Pass) {
			if p.Wrong > 0 {
				w.t.Errorf("%d records of the loop's copy of the store are wrong", p.Wrong)
			}
		},
	})
	loop.VerifyAlways()
	w.loop = loop
	if w.admin.ID == 0 {
		err := w.b.CreateTenants(context.Background(), broker.NewTenant{Tenant: broker.Tenant{Name: "admin", IsAdmin: true, SSHKey: "key"}, APIKey: "a"})
		if err != nil {
			w.t.Fatal(err)
		}
		if w.admin, err = w.b.Authenticate(context.Background(), "admin", "a"); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { loop.Run(ctx) })
	w.stopLoop = func() {
		cancel()
		running.Wait()
	}
}

func (w *world) nodes() []broker.Node {
	w.t.Helper()
	var nodes []broker.Node
	err := w.store.View(context.Background(), func(tx broker.ReadTx) (err error) {
		nodes, err = tx.Nodes(broker.NodeQuery{})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return nodes
}

func (w *world) terraform(uid string) (sealed []byte) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx broker.ReadTx) (err error) {
		sealed, err = tx.NodeTerraform(uid)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sealed
}

func (w *world) states() map[broker.NodeState]int {
	counts := map[broker.NodeState]int{}
	for _, n := range w.nodes() {
		counts[n.State]++
	}
	return counts
}

// check proves the invariants that hold at every moment.
func (w *world) check() {
	w.t.Helper()
	total := map[string]int{}
	live := map[string]bool{}
	for _, n := range w.nodes() {
		if n.State != broker.NodeGone {
			total[n.Pool]++
			live[n.UID] = true
		}
	}
	for _, p := range w.pools.All() {
		for _, window := range p.Schedule { // the one before may have made more
			p.MaxNodes = max(p.MaxNodes, window.MaxNodes)
		}
		if total[p.Name] > p.MaxNodes {
			w.t.Errorf("pool %s has %d nodes, its maximum is %d", p.Name, total[p.Name], p.MaxNodes)
		}
	}
	for _, uid := range w.cloud.Machines() {
		if !live[uid] {
			w.t.Errorf("machine %s exists, and no record of it does", uid)
		}
	}
	err := w.store.View(context.Background(), func(tx broker.ReadTx) error {
		sessions, err := tx.Sessions(broker.SessionQuery{States: []broker.SessionState{broker.SessionActive, broker.SessionPreparing}})
		holder := map[int64]int64{}
		for _, s := range sessions {
			for _, lent := range s.Nodes {
				if other, taken := holder[lent.ID]; taken {
					w.t.Errorf("node %d is in sessions %d and %d", lent.ID, other, s.ID)
				}
				holder[lent.ID] = s.ID
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.checkHosts()
}

// rest asserts that every pool is full, and that nothing else exists.
func (w *world) rest() {
	w.t.Helper()
	w.check()
	want := 0
	ready := map[string]int{}
	for _, n := range w.nodes() {
		switch n.State {
		case broker.NodeReady:
			ready[n.Pool]++
			if n.Touched {
				w.t.Errorf("node %d in stock counts as touched by a tenant", n.ID)
			}
			if key := w.cloud.Keys(n.UID); key != "" {
				w.t.Errorf("node %d in stock carries the key %q", n.ID, key)
			}
		case broker.NodeGone:
			if w.terraform(n.UID) != nil {
				w.t.Errorf("node %d is gone, and its Terraform state is kept", n.ID)
			}
		default:
			w.t.Errorf("node %d of pool %s rests as %s: %s", n.ID, n.Pool, n.State, n.Failure)
		}
	}
	for _, p := range w.pools.All() {
		want += p.FillLevel
		if ready[p.Name] != p.FillLevel {
			w.t.Errorf("pool %s rests with %d ready nodes, fill level %d", p.Name, ready[p.Name], p.FillLevel)
		}
	}
	if got := len(w.cloud.Machines()); got != want {
		w.t.Errorf("%d machines exist, want %d", got, want)
	}
}

func TestLoopFillsAndRefills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Second }}
		w := newWorld(t, cloud, testPool("a", 3, 6), testPool("b", 1, 2))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		w.rest()
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := w.states(); got[broker.NodeReady] != 4 || got[broker.NodeDeployed] != 2 {
			t.Errorf("states %v, want 4 ready and 2 deployed", got)
		}
		if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.rest()
		if got := cloud.Calls("decontextualize"); got != 2 {
			t.Errorf("the key was taken off %d nodes, want 2", got)
		}
		if got := cloud.Calls("apply"); got != 6 {
			t.Errorf("%d nodes were made, want 6", got)
		}
	})
}

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, new(brokertest.Cloud), testPool("a", 1, 3))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(broker.DefaultSessionLifetime - time.Second)
		if s, err = w.b.Session(t.Context(), w.admin, s.ID); err != nil || s.State != broker.SessionActive {
			t.Errorf("a second before its end the session is %s, %v", s.State, err)
		}
		time.Sleep(2 * time.Second)
		if s, err = w.b.Session(t.Context(), w.admin, s.ID); err != nil || s.State != broker.SessionRetired {
			t.Errorf("a second after its end the session is %s, %v", s.State, err)
		}
		time.Sleep(time.Minute)
		w.rest()
	})
}

// A crash in any state is continued by the next process.
func TestStory02RestartInEachState(t *testing.T) {
	for _, state := range broker.NodeStates() {
		if state == broker.NodeHeld {
			continue // stays: TestHoldSurvivesARestart
		}
		t.Run(string(state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := testPool("a", 2, 4)
				w := newWorld(t, new(brokertest.Cloud), p)
				n := broker.NewNode(p, time.Now())
				n.State = state
				switch state {
				case broker.NodePlanned, broker.NodeGone:
				default:
					if _, err := w.cloud.Apply(t.Context(), n); err != nil {
						t.Fatal(err)
					}
				}
				if state == broker.NodeContextualizing || state == broker.NodeReleasing {
					n.Touched = true
					if err := w.cloud.Contextualize(t.Context(), n, "key of a tenant"); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.store.Update(t.Context(), func(tx broker.Tx) error { n.ID = 0; return tx.CreateNode(&n) }); err != nil {
					t.Fatal(err)
				}
				w.start()
				defer func() { w.stopLoop() }()
				time.Sleep(5 * time.Minute)
				w.rest()
			})
		})
	}
}

// A request that a crash cut off is undone, whatever its nodes were in.
func TestRestartDuringRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := new(brokertest.Cloud)
		w := newWorld(t, cloud, testPool("a", 2, 5))
		w.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		cloud.Delay = func(op string) time.Duration {
			if op == "contextualize" {
				return 10 * time.Second
			}
			return 0
		}
		ctx, crash := context.WithCancel(t.Context())
		before := w.store
		w.store = frozen{before, ctx}
		dying := broker.New(broker.Config{
			Store: w.store, Contextualizer: cloud, Keys: noKeys{}, Pools: w.pools, Log: slog.New(slog.DiscardHandler),
			Now: time.Now, Wake: func() {},
		})
		w.stopLoop()
		var request sync.WaitGroup
		request.Go(func() {
			_, err := dying.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 2}}})
			if err == nil {
				t.Error("a request succeeded though its broker was dead")
			}
		})
		time.Sleep(5 * time.Second)
		crash() // from here on the old process can't write any more
		request.Wait()
		w.store = before
		if got := w.states(); got[broker.NodeContextualizing] != 2 {
			t.Fatalf("states %v, want 2 contextualizing", got)
		}
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(5 * time.Minute)
		w.rest()
		if sessions, err := w.b.Sessions(t.Context(), w.admin); err != nil || len(sessions) != 0 {
			t.Errorf("sessions %v, %v; want none", sessions, err)
		}
	})
}

// A request that takes its time is not taken for what a crash left behind.
func TestRequestInProgressIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "contextualize" {
				return 10 * time.Second
			}
			return 0
		}}
		w := newWorld(t, cloud, testPool("a", 2, 5))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 2}}})
		if err != nil || s.State != broker.SessionActive {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

// A broker that stops leaves its runs alone, and does not call them failed.
func TestStopDuringWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return 10 * time.Second }}
		p := testPool("a", 1, 2)
		w := newWorld(t, cloud, p)
		for _, step := range []struct {
			after time.Duration
			fill  int
			want  broker.NodeState
		}{
			{5 * time.Second, 1, broker.NodeApplying},
			{15 * time.Second, 1, broker.NodeChecking},
			{15 * time.Second, 0, broker.NodeDestroying},
		} {
			p.FillLevel = 1
			w.pools.Set([]broker.Pool{p})
			w.start()
			if step.fill == 0 {
				time.Sleep(time.Minute)
				p.FillLevel = 0
				w.pools.Set([]broker.Pool{p})
				w.b.AbandonedByClient(t.Context(), 0) //nolint:errcheck // only wakes the loop
				time.Sleep(5 * time.Second)
			} else {
				time.Sleep(step.after)
			}
			w.stopLoop()
			if got := w.states(); got[step.want] != 1 || got[broker.NodeFailed] != 0 {
				t.Errorf("stopped, and the states are %v, want one %s", got, step.want)
			}
		}
		if got := cloud.Calls("apply"); got != 2 {
			t.Errorf("apply was called %d times, want twice: begun, and adopted", got)
		}
	})
}

// frozen is a store that its process can't reach once it is dead.
type frozen struct {
	broker.Store

	dead context.Context // it stands for the process
}

func (f frozen) Update(ctx context.Context, fn func(broker.Tx) error) error {
	if f.dead.Err() != nil {
		return errors.New("the process is dead")
	}
	return f.Store.Update(ctx, fn)
}

func TestStory03DestroyFailsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		cloud := &brokertest.Cloud{Fail: func(op string, _ broker.Node) error {
			if op == "destroy" && !mended.Load() {
				return errors.New("dependency violation")
			}
			return nil
		}}
		w := newWorld(t, cloud, testPool("a", 1, 2))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		w.pools.Set([]broker.Pool{testPool("a", 0, 2)})
		time.Sleep(24 * time.Hour)
		if got := w.states(); got[broker.NodeDestroying] != 1 || len(cloud.Machines()) != 1 {
			t.Fatalf("states %v, %d machines; want it remembered", got, len(cloud.Machines()))
		}
		if n := w.nodes()[0]; n.Failure != "destroy: dependency violation" || n.Attempts < 100 {
			t.Errorf("failure %q after %d attempts", n.Failure, n.Attempts)
		}
		if got := cloud.Calls("destroy"); got > 200 {
			t.Errorf("%d attempts in a day, want a back-off", got)
		}
		mended.Store(true)
		time.Sleep(11 * time.Minute)
		w.rest()
	})
}

// A destroy that fails without saying what is left takes nothing from what is
// known: neither from the store, nor from the run's directory.
func TestBlindDestroyKeepsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Blind: true, Fail: func(op string, _ broker.Node) error {
			if op == "destroy" {
				return errors.New("the state file is empty")
			}
			return nil
		}}
		p := testPool("a", 1, 2)
		w := newWorld(t, cloud, p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		n, before := w.nodes()[0], cloud.Calls("discard")
		w.pools.Set([]broker.Pool{testPool("a", 0, 2)})
		time.Sleep(time.Minute)
		if cloud.Calls("destroy") < 2 {
			t.Fatal("destroy was not tried twice")
		}
		if got := string(w.terraform(n.UID)); got != "state of "+n.UID {
			t.Errorf("the stored state is %q after a destroy that gave none", got)
		}
		if got := cloud.Calls("discard"); got != before {
			t.Errorf("the run directory was discarded %d times", got-before)
		}
	})
}

// Story 15: a pool whose creates always fail costs a bounded number of them.
func TestStory15CrashLoopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		cloud := &brokertest.Cloud{
			Fail: func(op string, n broker.Node) error {
				if op == "apply" && n.Pool == "a" && !mended.Load() {
					return errors.New("invalid AMI")
				}
				return nil
			},
			Partial: func(broker.Node) bool { return true },
		}
		w := newWorld(t, cloud, testPool("a", 4, 8), testPool("b", 2, 4))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Hour)
		w.check()
		if got := cloud.Calls("apply"); got < 5 || got > 22 {
			t.Errorf("%d creates in an hour, 2 of which are of the sound pool, want 5 to 22", got)
		}
		if got := w.states(); got[broker.NodeReady] != 2 {
			t.Errorf("states %v: the sound pool is to be full", got)
		}
		mended.Store(true)
		time.Sleep(11 * time.Minute)
		w.rest()
		err := w.store.View(t.Context(), func(tx broker.ReadTx) error {
			healths, err := tx.PoolHealths()
			if len(healths) != 0 {
				t.Errorf("failures are remembered after a success: %+v", healths)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestStory18PoolLeavesTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, new(brokertest.Cloud), testPool("a", 2, 4), testPool("b", 1, 2))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		w.pools.Set([]broker.Pool{testPool("b", 1, 2)})
		time.Sleep(time.Minute)
		if got := w.states(); got[broker.NodeDeployed] != 1 || got[broker.NodeReady] != 1 {
			t.Errorf("states %v, want the lent node left alone and the stock of the pool gone", got)
		}
		if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.rest()
	})
}

func TestRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Second }}
		w := newWorld(t, cloud, testPool("a", 3, 6))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		next := testPool("a", 3, 6)
		next.Source.Generation = "g2"
		w.pools.Set([]broker.Pool{next})
		least := 3
		for range 600 {
			time.Sleep(500 * time.Millisecond)
			least = min(least, w.states()[broker.NodeReady])
			w.check()
		}
		w.rest()
		for _, n := range w.nodes() {
			if n.State == broker.NodeReady && n.Source.Generation != "g2" {
				t.Errorf("node %d is stale after the rollout", n.ID)
			}
		}
		if least < 3 {
			t.Errorf("stock fell to %d during the rollout, want never below 3", least)
		}
	})
}

// Old records go after a day, and events after a week.
func TestOldRecordsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, new(brokertest.Cloud), testPool("a", 1, 2))
		err := w.store.Update(t.Context(), func(tx broker.Tx) error {
			return tx.SetIdempotency(broker.Idempotency{TenantID: 1, Key: "k", CreatedAt: time.Now()})
		})
		if err != nil {
			t.Fatal(err)
		}
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		w.pools.Set(nil)
		time.Sleep(time.Hour)
		if got := w.states(); !cmp.Equal(got, map[broker.NodeState]int{broker.NodeGone: 1}) {
			t.Errorf("states %v, want one node gone", got)
		}
		time.Sleep(reconcile.KeepGone + time.Hour)
		if got := w.nodes(); len(got) != 0 {
			t.Errorf("%d records are kept for ever", len(got))
		}
		time.Sleep(8 * 24 * time.Hour)
		err = w.store.View(t.Context(), func(tx broker.ReadTx) error {
			events, err := tx.Events(0, 1000)
			if len(events) != 0 {
				t.Errorf("%d events are kept for ever", len(events))
			}
			if _, err := tx.Idempotency(1, "k"); broker.CodeOf(err) != broker.CodeNotFound {
				t.Errorf("an idempotency key is kept for ever: %v", err)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// The broker crashes at any moment of any workload, with a cloud that fails as
// it likes. At every moment the invariants hold, and once the cloud is well
// again, everything comes to rest: stock full, nothing leaked.
func TestAnyHistory(t *testing.T) {
	// A history takes rapid longer than the single calls that its default of 100
	// checks is made for.
	checks := flag.Lookup("rapid.checks")
	if before := checks.Value.String(); before == checks.DefValue {
		_ = checks.Value.Set("30")
		defer func() { _ = checks.Value.Set(before) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		crashes := rapid.IntRange(0, 4).Draw(rt, "crashes")
		failing := rapid.IntRange(0, 40).Draw(rt, "percent of calls that fail")
		synctest.Test(t, func(*testing.T) { anyHistory(rt, seed, crashes, failing) })
	})
}

// It reports with Error only: a bubble is not the goroutine that rapid may end.
func anyHistory(t *rapid.T, seed uint64, crashes, failing int) {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	cloud := &brokertest.Cloud{
		Delay:   func(string) time.Duration { return time.Duration(draw(2000)) * time.Millisecond },
		Partial: func(broker.Node) bool { return draw(2) == 0 },
		Fail: func(op string, n broker.Node) error {
			mu.Lock()
			rate := failing
			mu.Unlock()
			if draw(100) < rate {
				return fmt.Errorf("%s of node %d failed", op, n.ID)
			}
			return nil
		},
	}
	w := newWorld(t, cloud, testPool("a", 3, 6), testPool("b", 1, 3))
	var promised []int64 // acknowledged sessions that were not given back
	for range crashes + 1 {
		w.start()
		for range 20 {
			time.Sleep(time.Duration(draw(3000)) * time.Millisecond)
			w.check()
			switch draw(6) {
			case 4:
				w.interruptAny(draw)
			case 0:
				s, err := w.b.RequestSession(context.Background(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1 + draw(2)}, {Pool: "b", Quantity: 1}}})
				if err == nil {
					promised = append(promised, s.ID)
				}
			case 1:
				if len(promised) == 0 {
					continue
				}
				i := draw(len(promised))
				if _, err := w.b.UpdateSession(context.Background(), w.admin, promised[i], broker.SessionUpdate{Retire: true}); err != nil {
					t.Error(err)
				}
				promised = slices.Delete(promised, i, i+1)
			case 2:
				w.holdAny(draw)
			case 3:
				w.releaseAny()
			}
		}
		w.stopLoop()
	}
	mu.Lock()
	failing = 0
	mu.Unlock()
	w.start()
	time.Sleep(30 * time.Minute) // past every pause
	for w.releaseAny() {
	}
	for _, id := range promised {
		s, err := w.b.Session(context.Background(), w.admin, id)
		if err != nil || s.State != broker.SessionActive {
			t.Errorf("session %d was promised and is %s, %v", id, s.State, err)
		}
		if _, err := w.b.UpdateSession(context.Background(), w.admin, id, broker.SessionUpdate{Retire: true}); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(30 * time.Minute)
	w.rest()
	w.stopLoop()
}
