package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// zones is the failing side of a cloud in which some variants have no capacity.
type zones struct {
	mu    sync.Mutex
	full  map[string]broker.FailureClass // by variant
	tries map[string]int
}

func (z *zones) set(full map[string]broker.FailureClass) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.full, z.tries = full, make(map[string]int)
}

func (z *zones) tried(variant string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.tries[variant]
}

func (z *zones) cloud() *brokertest.Cloud {
	return &brokertest.Cloud{
		Delay: func(op string) time.Duration {
			if op == "apply" {
				return 20 * time.Second
			}
			return time.Second
		},
		Fail: func(op string, n broker.Node) error {
			z.mu.Lock()
			defer z.mu.Unlock()
			if op != "apply" {
				return nil
			}
			z.tries[n.Variant]++
			if class := z.full[n.Variant]; class != "" {
				return &broker.Failure{Class: class, Err: errors.New("no host has room in " + n.Variant)}
			}
			return nil
		},
	}
}

func variantPool(fill, maximum int) broker.Pool {
	p := testPool("a", fill, maximum)
	for _, name := range []string{"near", "far"} {
		p.Variants = append(p.Variants, broker.Variant{Name: name, Cooldown: 10 * time.Minute, Source: broker.Source{Template: "t", Generation: "g-" + name}})
	}
	p.Source = p.Variants[0].Source
	return p
}

// stockByVariant counts the ready nodes by variant.
func (w *world) stockByVariant() map[string]int {
	counts := map[string]int{}
	for _, n := range w.nodes() {
		if n.State == broker.NodeReady {
			counts[n.Variant]++
		}
	}
	return counts
}

func (w *world) status() broker.PoolStatus {
	w.t.Helper()
	s, err := w.b.PoolStatus(context.Background(), w.admin, "a")
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// A variant without capacity for an hour costs nobody anything: nodes come from
// the next one at once, it is tried now and then, by one node, and then nodes come
// from it again. A restart remembers. The pool counts no failure all the time.
func TestVariantWithoutCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := new(zones)
		z.set(map[string]broker.FailureClass{"near": broker.FailureNoCapacity})
		p := variantPool(4, 12)
		w := newWorld(t, z.cloud(), p)
		w.outlook = reconcile.Outlook{}
		w.start()
		defer func() { w.stopLoop() }()
		began := time.Now()
		time.Sleep(50 * time.Second)
		if diff := cmp.Diff(map[string]int{"far": 4}, w.stockByVariant()); diff != "" {
			t.Fatalf("stock after two creates' time (-want +got):\n%s", diff)
		}
		s := w.status()
		if len(s.Variants) != 2 || s.Variants[0].Cools.IsZero() || s.Variants[0].Failure.Class != broker.FailureNoCapacity ||
			!strings.Contains(s.Variants[0].Failure.Message, "no host has room in near") || !s.Variants[1].Cools.IsZero() || s.Variants[1].Ready != 4 {
			t.Errorf("variants %+v", s.Variants)
		}
		first := z.tried("near")
		if first != 4 { // all that may run at once
			t.Errorf("%d creates were begun in near, want 4", first)
		}
		w.stopLoop()
		w.start()

		var lent []int64
		for time.Since(began) < time.Hour {
			session, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
			if err != nil {
				t.Fatalf("a request was refused: %v", err)
			}
			if lent = append(lent, session.ID); len(lent) > 2 {
				if _, err := w.b.UpdateSession(t.Context(), w.admin, lent[0], broker.SessionUpdate{Retire: true}); err != nil {
					t.Fatal(err)
				}
				lent = lent[1:]
			}
			time.Sleep(2 * time.Minute)
			w.check()
			if s := w.status(); s.Health.Failures != 0 || reconcile.BreakerOpen(p, s.Health) || !s.NextTry.IsZero() || s.Stale != 0 {
				t.Fatalf("the pool counts failures, rests, or has stale nodes: %+v", s)
			}
		}
		if again := z.tried("near") - first; again < 3 || again > 6 {
			t.Errorf("near was tried %d times in the hour after its first failures, want one try in ten minutes", again)
		}
		z.set(nil)
		time.Sleep(11 * time.Minute)
		for range 3 { // a try, and then as ever
			session, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			lent = append(lent, session.ID)
			time.Sleep(time.Minute)
		}
		if got := w.stockByVariant(); got["near"] != 3 || z.tried("far") != 0 {
			t.Errorf("with capacity in near again: stock %v, and %d creates in far", got, z.tried("far"))
		}
		if s := w.status(); !s.Health.Well() {
			t.Errorf("health is remembered after a success: %+v", s.Health)
		}
		for _, id := range lent {
			if _, err := w.b.UpdateSession(t.Context(), w.admin, id, broker.SessionUpdate{Retire: true}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		w.rest()
		var reasons []string
		err := w.store.View(t.Context(), func(tx broker.ReadTx) error {
			events, err := tx.Events(0, 100000)
			for _, e := range events {
				if e.To == string(broker.NodeApplying) && strings.Contains(e.Message, "variant far, since near had no_capacity") {
					reasons = append(reasons, e.Message)
				}
			}
			return err
		})
		if err != nil || len(reasons) == 0 {
			t.Errorf("no event says why a node is made in far: %v", err)
		}
	})
}

// When no variant has capacity the pool waits for the first one that is free
// again, says so, and goes on by itself.
func TestNoVariantHasCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := new(zones)
		z.set(map[string]broker.FailureClass{"near": broker.FailureNoCapacity, "far": broker.FailureQuota})
		p := variantPool(2, 6)
		p.Concurrency = 2
		w := newWorld(t, z.cloud(), p)
		w.outlook = reconcile.Outlook{}
		w.start()
		defer func() { w.stopLoop() }()
		began := time.Now()
		time.Sleep(5 * time.Minute)
		s := w.status()
		// Two nodes fail in near after 20 s, and two in far after 20 s more.
		if next := s.NextTry.Sub(began).Round(time.Second); next != 10*time.Minute+20*time.Second {
			t.Errorf("the next try is after %v, want when near is free", next)
		}
		if s.Health.Failures == 0 || s.Health.Class != broker.FailureQuota || !strings.Contains(s.Health.Message, "no host has room in far") {
			t.Errorf("health %+v, want the failure that took the last variant", s.Health)
		}
		for _, v := range s.Variants {
			if v.Cools.IsZero() {
				t.Errorf("variant %s does not cool down", v.Name)
			}
		}
		time.Sleep(5 * time.Minute)
		if near, far := z.tried("near"), z.tried("far"); near != 2 || far != 2 {
			t.Errorf("%d and %d creates before a variant is free, want 2 and 2", near, far)
		}
		time.Sleep(24 * time.Hour)
		if tries := z.tried("near") + z.tried("far"); tries < 100 || tries > 2*6*24+8 {
			t.Errorf("%d creates in a day, want one of each variant in ten minutes, at most", tries)
		}
		w.check()
		synctest.Wait()
		z.set(map[string]broker.FailureClass{"near": broker.FailureNoCapacity})
		time.Sleep(21 * time.Minute)
		if got := w.stockByVariant(); got["far"] != 2 {
			t.Errorf("stock %v, want all of far", got)
		}
		if s := w.status(); s.Health.Failures != 0 || len(s.Health.Variants) != 1 {
			t.Errorf("health %+v, want near's only", s.Health)
		}
		w.rest()
	})
}

// A change of one variant replaces the nodes of that one only.
func TestRolloutOfAVariant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := new(zones)
		z.set(map[string]broker.FailureClass{"near": broker.FailureNoCapacity})
		p := variantPool(4, 9)
		p.Rollout = broker.RolloutSettings{MaxSurge: 1, PauseAfter: 2}
		w := newWorld(t, z.cloud(), p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		synctest.Wait()
		z.set(nil)
		time.Sleep(11 * time.Minute)
		p.FillLevel = 6
		w.pools.Set([]broker.Pool{p})
		time.Sleep(2 * time.Minute)
		if got := w.stockByVariant(); got["near"] == 0 || got["far"] == 0 {
			t.Fatalf("stock %v, want both", got)
		}
		stale := w.stockByVariant()["far"]
		p.Variants = []broker.Variant{p.Variants[0], p.Variants[1]}
		p.Variants[1].Source.Generation = "g-far-2"
		w.pools.Set([]broker.Pool{p})
		w.loop.Wake()
		time.Sleep(time.Second)
		if s := w.rollout(); s.Stale != stale || s.State != broker.RolloutRunning || s.Generation != p.Generation() {
			t.Errorf("rollout %+v, want one of %d nodes", s, stale)
		}
		time.Sleep(10 * time.Minute)
		if s := w.rollout(); !s.Finished() || s.State != broker.RolloutDone {
			t.Errorf("rollout %+v", s)
		}
		if got := w.stockByVariant(); got["near"] != 6 {
			t.Errorf("stock %v, want all of near", got)
		}
		w.rest()
	})
}

// Each variant is listed with its own variables, which see nothing of the others:
// a leak is found in whichever, and no node is taken for vanished.
func TestSweeperOfVariants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := new(zones)
		z.set(map[string]broker.FailureClass{"near": broker.FailureNoCapacity})
		p := variantPool(2, 6)
		p.CreateTimeout, p.Sweep = 5*time.Minute, broker.Sweep{Interval: 10 * time.Minute, MaxDestroys: 5}
		for i := range p.Variants {
			p.Variants[i].Source.Sweeps = true
		}
		p.Source = p.Variants[0].Source
		w := newWorld(t, z.cloud(), p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		synctest.Wait()
		z.set(nil)
		time.Sleep(11 * time.Minute)
		p.FillLevel = 4
		w.pools.Set([]broker.Pool{p})
		time.Sleep(time.Minute)
		const leak = "00000000000000ff"
		w.cloud.Appear(leak, "a")
		var mu sync.Mutex
		lists := map[string]int{}
		_, stop := startSweeper(t, w, listerFunc(func(ctx context.Context, p broker.Pool) (broker.Listing, error) {
			listing, err := w.cloud.List(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			lists[p.Source.Generation]++
			listing.Nodes = slices.DeleteFunc(listing.Nodes, func(l broker.ListedNode) bool {
				n, known := w.byUID(l.UID)
				if l.UID == leak {
					return p.Source.Generation != "g-far"
				}
				return known && n.Source.Generation != p.Source.Generation
			})
			return listing, err
		}))
		defer stop()
		time.Sleep(time.Hour)
		n, _ := w.byUID(leak)
		if n.State != broker.NodeGone || n.Variant != "far" || n.Source.Generation != "g-far" {
			t.Errorf("the leak is %+v, want a node of far that is gone", n)
		}
		mu.Lock()
		defer mu.Unlock()
		if lists["g-near"] < 5 || lists["g-far"] < 5 {
			t.Errorf("listings %v, want some of each variant", lists)
		}
		for _, n := range w.nodes() {
			if n.UID != leak && n.Failure != "" && n.Variant == "far" {
				t.Errorf("node %d: %s", n.ID, n.Failure)
			}
		}
		w.rest()
	})
}
