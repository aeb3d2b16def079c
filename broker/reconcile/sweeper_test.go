package reconcile_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// sweptPool is swept every ten minutes.
func sweptPool(name string, fill, maximum int) broker.Pool {
	p := testPool(name, fill, maximum)
	p.Source.Sweeps, p.CreateTimeout = true, 5*time.Minute
	p.Sweep = broker.Sweep{Interval: 10 * time.Minute, MaxDestroys: 5}
	return p
}

// startSweeper runs a sweeper beside the loop of w, until the end of the test.
func startSweeper(t *testing.T, w *world, lister broker.Lister) (s *reconcile.Sweeper, stop func()) {
	t.Helper()
	s = reconcile.NewSweeper(reconcile.SweeperConfig{
		Store: w.store, Lister: lister, Pools: w.pools, Log: slog.New(slog.DiscardHandler), Now: time.Now, Wake: func() {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	return s, func() {
		cancel()
		running.Wait()
	}
}

func (w *world) byUID(uid string) (broker.Node, bool) {
	for _, n := range w.nodes() {
		if n.UID == uid {
			return n, true
		}
	}
	return broker.Node{}, false
}

// A leak is gone after two sweeps, and nothing else is touched. What was found is
// a node like all others.
func TestSweeperDestroysLeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, new(brokertest.Cloud), sweptPool("a", 2, 4), sweptPool("b", 1, 4))
		w.start()
		defer func() { w.stopLoop() }()
		_, stop := startSweeper(t, w, w.cloud)
		defer stop()
		time.Sleep(time.Minute)
		const leak = "00000000000000ff"
		w.cloud.Appear(leak, "a")
		w.cloud.Appear("not-a-node-id", "a")
		time.Sleep(9 * time.Minute)
		if n, ok := w.byUID(leak); ok {
			t.Fatalf("a leak is %s before it was seen twice", n.State)
		}
		time.Sleep(16 * time.Minute)
		if n, _ := w.byUID(leak); n.State != broker.NodeGone || n.Import != nil || n.RetiredAt.IsZero() {
			t.Errorf("the leak is %+v, want a node that is gone", n)
		}
		machines := w.cloud.Machines()
		if !slices.Contains(machines, "not-a-node-id") || slices.Contains(machines, leak) || len(machines) != 4 {
			t.Errorf("machines %v", machines)
		}
		var story []string
		err := w.store.View(t.Context(), func(tx broker.ReadTx) error {
			n, _ := w.byUID(leak)
			events, err := tx.Events(0, 10000)
			for _, e := range events {
				if e.NodeID == n.ID {
					story = append(story, e.To+": "+e.Message)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(story) != 3 || !strings.HasPrefix(story[0], "failed: leaked: ") {
			t.Errorf("events %v", story)
		}
	})
}

// A node that counted as gone is found again, under its own number.
func TestSweeperFindsWhatCountedAsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := sweptPool("a", 0, 4)
		w := newWorld(t, new(brokertest.Cloud), p)
		n := broker.NewNode(p, time.Now())
		n.State, n.RetiredAt = broker.NodeGone, time.Now()
		if err := w.store.Update(t.Context(), func(tx broker.Tx) error { return tx.CreateNode(&n) }); err != nil {
			t.Fatal(err)
		}
		w.cloud.Appear(n.UID, "a")
		w.start()
		defer func() { w.stopLoop() }()
		_, stop := startSweeper(t, w, w.cloud)
		defer stop()
		time.Sleep(30 * time.Minute)
		if got := w.cloud.Machines(); len(got) > 0 {
			t.Errorf("machines %v are left", got)
		}
		if all := w.nodes(); len(all) != 1 || all[0].State != broker.NodeGone || !strings.Contains(all[0].Failure, "counted as gone") {
			t.Errorf("nodes %+v", all)
		}
	})
}

// Story 23: a machine that vanishes from stock is replaced. One that vanishes
// while it is lent stays its session's, which is told, and goes with it.
func TestStory23MachineVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, new(brokertest.Cloud), sweptPool("a", 3, 8))
		w.start()
		defer func() { w.stopLoop() }()
		_, stop := startSweeper(t, w, w.cloud)
		defer stop()
		time.Sleep(10 * time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		var stock broker.Node
		for _, n := range w.nodes() {
			if n.State == broker.NodeReady && n.CreatedAt.Before(time.Now().Add(-10*time.Minute)) {
				stock = n
			}
		}
		nodes, err := w.b.NodesByID(t.Context(), s.Nodes[0].ID, s.Nodes[1].ID)
		if err != nil {
			t.Fatal(err)
		}
		lent, kept := nodes[s.Nodes[0].ID], nodes[s.Nodes[1].ID]
		w.cloud.Vanish(stock.UID)
		w.cloud.Vanish(lent.UID)
		time.Sleep(30 * time.Minute)

		if n, _ := w.byUID(stock.UID); n.State != broker.NodeGone {
			t.Errorf("the node in stock is %s, want gone", n.State)
		}
		n, _ := w.byUID(lent.UID)
		if n.State != broker.NodeLost || n.State.Wire() != "failed" || n.SessionID != s.ID || !strings.HasPrefix(n.Failure, "vanished: ") {
			t.Errorf("the lent node is %s of session %d: %s", n.State, n.SessionID, n.Failure)
		}
		if n, _ := w.byUID(kept.UID); n.State != broker.NodeDeployed {
			t.Errorf("the other lent node is %s", n.State)
		}
		if now, err := w.b.Session(t.Context(), w.admin, s.ID); err != nil || now.State != broker.SessionActive || len(now.Nodes) != 2 {
			t.Errorf("the session is %+v, %v", now, err)
		}
		var told []broker.Event
		err = w.store.View(t.Context(), func(tx broker.ReadTx) error {
			events, err := tx.Events(0, 10000)
			for _, e := range events {
				if e.Kind == broker.EventSession && e.NodeID == lent.ID {
					told = append(told, e)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(told) != 1 || told[0].SessionID != s.ID || !strings.Contains(told[0].Message, "has vanished") {
			t.Errorf("the session was told %+v", told)
		}
		if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.rest()
	})
}

// mangler spoils the listings of a cloud, and counts them.
type mangler struct {
	broker.Lister

	calls, inFlight, most atomic.Int64
	mangle                func(broker.Listing) (broker.Listing, error)
	takes                 time.Duration
}

func (m *mangler) List(ctx context.Context, p broker.Pool) (broker.Listing, error) {
	m.calls.Add(1)
	now := m.inFlight.Add(1)
	defer m.inFlight.Add(-1)
	m.most.Store(max(m.most.Load(), now))
	time.Sleep(m.takes)
	listing, err := m.Lister.List(ctx, p)
	if err == nil && m.mangle != nil {
		return m.mangle(listing)
	}
	return listing, err
}

// After a listing that says nothing, counting begins anew.
func TestSweeperForgetsAfterABadListing(t *testing.T) {
	for name, bad := range map[string]func(broker.Listing) (broker.Listing, error){
		"failed":     func(broker.Listing) (broker.Listing, error) { return broker.Listing{}, errors.New("no answer") },
		"incomplete": func(l broker.Listing) (broker.Listing, error) { l.Complete = false; return l, nil },
		"empty":      func(broker.Listing) (broker.Listing, error) { return broker.Listing{Complete: true}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, new(brokertest.Cloud), sweptPool("a", 2, 4))
				w.start()
				defer func() { w.stopLoop() }()
				time.Sleep(time.Minute)
				w.cloud.Appear("00000000000000ff", "a")
				var bads atomic.Int64
				m := &mangler{Lister: w.cloud}
				m.mangle = func(l broker.Listing) (broker.Listing, error) {
					if m.calls.Load()%2 == 0 {
						bads.Add(1)
						return bad(l)
					}
					return l, nil
				}
				_, stop := startSweeper(t, w, m)
				defer stop()
				time.Sleep(2 * time.Hour)
				if got := len(w.cloud.Machines()); got != 3 || bads.Load() < 5 {
					t.Errorf("%d machines after %d bad listings, want 3: no two good ones came in a row", got, bads.Load())
				}
			})
		})
	}
}

// Sweeps keep their intervals, run one at a time, and start when they are asked to.
func TestSweeperTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off, never := sweptPool("off", 0, 1), sweptPool("never", 0, 1)
		off.Sweep.Interval, never.Source.Sweeps = 0, false
		w := newWorld(t, new(brokertest.Cloud), sweptPool("a", 0, 1), sweptPool("b", 0, 1), off, never)
		m := &mangler{Lister: w.cloud, takes: time.Minute}
		_, stop := startSweeper(t, w, m)
		defer stop()
		time.Sleep(100*time.Minute - time.Second)
		if got := m.calls.Load(); got < 18 || got > 20 {
			t.Errorf("%d listings of two pools in 100 minutes, want 18 to 20", got)
		}
		if got := m.most.Load(); got != 1 {
			t.Errorf("%d listings at once", got)
		}
	})
}

func TestSweeperSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := sweptPool("a", 0, 1)
		p.Sweep.Interval = 24 * time.Hour
		w := newWorld(t, new(brokertest.Cloud), p)
		m := &mangler{Lister: w.cloud}
		s, stop := startSweeper(t, w, m)
		defer stop()
		time.Sleep(13 * time.Hour)
		for range 3 {
			s.Soon("a")
			s.Soon("unknown")
			time.Sleep(time.Second)
		}
		if got := m.calls.Load(); got != 1 {
			t.Errorf("%d listings, want the first one alone", got)
		}
		time.Sleep(10 * time.Second)
		if got := m.calls.Load(); got != 2 {
			t.Errorf("%d listings, want one more since it was asked for", got)
		}
		time.Sleep(23 * time.Hour)
		if got := m.calls.Load(); got != 2 {
			t.Errorf("%d listings, want none ahead of the next interval", got)
		}
	})
}

// A create that was cut short is followed by a sweep.
func TestCutCreatesAreSweptSoon(t *testing.T) {
	for _, class := range broker.FailureClasses() {
		t.Run(string(class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := &brokertest.Cloud{Fail: func(op string, _ broker.Node) error {
					if op == "apply" {
						return &broker.Failure{Class: class, Err: errors.New("it failed")}
					}
					return nil
				}}
				w := newWorld(t, cloud, sweptPool("a", 1, 1))
				var asked atomic.Int64
				loop := reconcile.New(reconcile.Config{
					Store: w.store, Provisioner: cloud, Contextualizer: cloud, Pools: w.pools, Runs: 1, Serving: func() map[string]bool { return nil },
					Log: slog.New(slog.DiscardHandler), Now: time.Now, Soon: func(pool string) {
						if pool == "a" {
							asked.Add(1)
						}
					},
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				loop.Run(ctx)
				want := class == broker.FailureTimeout || class == broker.FailureInterrupted
				if got := asked.Load() > 0; got != want {
					t.Errorf("a sweep was asked for: %t, want %t", got, want)
				}
			})
		})
	}
}

// Story 17: what the loop is slowly making or removing is none of the sweep's
// business, however long that takes and however often it is listed.
func TestStory17SweepLeavesWorkInProgressAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "destroy" {
				return 2 * time.Hour
			}
			return 0
		}}
		p := sweptPool("a", 1, 4)
		p.DestroyTimeout = 3 * time.Hour
		w := newWorld(t, cloud, p)
		w.start()
		defer func() { w.stopLoop() }()
		_, stop := startSweeper(t, w, w.cloud)
		defer stop()
		time.Sleep(time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Minute) // nine sweeps
		var states []broker.NodeState
		for _, n := range w.nodes() {
			states = append(states, n.State)
			if n.Import != nil || strings.Contains(n.Failure, "leaked") {
				t.Errorf("node %d was taken for a leak: %+v", n.ID, n)
			}
		}
		if !slices.Equal(states, []broker.NodeState{broker.NodeDestroying, broker.NodeReady}) {
			t.Errorf("nodes are %v, want one that is still being destroyed and its successor", states)
		}
		time.Sleep(time.Hour)
		if n := w.nodes()[0]; n.State != broker.NodeGone {
			t.Errorf("the node is %s after its destroy", n.State)
		}
	})
}

// listerFunc is a [broker.Lister].
type listerFunc func(context.Context, broker.Pool) (broker.Listing, error)

func (f listerFunc) List(ctx context.Context, p broker.Pool) (broker.Listing, error) {
	return f(ctx, p)
}

// A pool that changes while it is listed takes over nothing: what it was made
// from may have gone by then.
func TestSweeperOfAChangedPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := sweptPool("a", 0, 4)
		w := newWorld(t, new(brokertest.Cloud), p)
		w.cloud.Appear("00000000000000ff", "a")
		w.start()
		defer func() { w.stopLoop() }()
		listings := 0
		_, stop := startSweeper(t, w, listerFunc(func(ctx context.Context, p broker.Pool) (broker.Listing, error) {
			if listings++; listings > 1 {
				w.pools.Set(nil) // it leaves the file meanwhile
			}
			return w.cloud.List(ctx, p)
		}))
		defer stop()
		time.Sleep(time.Hour)
		synctest.Wait() // the race detector takes it for an order, a sleep not
		if nodes := w.nodes(); len(nodes) > 0 || listings != 2 {
			t.Errorf("%d listings, and nodes %+v", listings, nodes)
		}
	})
}
