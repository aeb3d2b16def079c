package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// limitAge gives a pool of the world a greatest age.
func (w *world) limitAge(name string, most time.Duration) {
	pools := w.pools.All()
	for i := range pools {
		if pools[i].Name == name {
			pools[i].MaxAge = most
		}
	}
	w.pools.Set(pools)
}

// addAged puts a node of that age into stock.
func (w *world) addAged(p broker.Pool, age time.Duration) int64 {
	w.t.Helper()
	n := w.addReady(p)
	n.CreatedAt = t0.Add(-age)
	err := w.store.Update(context.Background(), func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReady, n) })
	if err != nil {
		w.t.Fatal(err)
	}
	return n.ID
}

func TestNothingTooOldIsLent(t *testing.T) {
	w := newWorld(t, 0)
	ctx := context.Background()
	p := testPool("small", broker.ContextualizeSSH)
	w.addAged(p, 30*time.Hour)
	w.addAged(p, 24*time.Hour)
	good := w.addAged(p, 24*time.Hour-time.Second)
	if _, levels, err := w.b.Pool(ctx, "small"); err != nil || levels.Ready != 3 {
		t.Errorf("without a limit %d nodes are ready, want 3 (%v)", levels.Ready, err)
	}
	w.limitAge("small", 24*time.Hour)
	if _, levels, err := w.b.Pool(ctx, "small"); err != nil || levels.Ready != 1 {
		t.Errorf("%d nodes are ready, want 1: the others are too old (%v)", levels.Ready, err)
	}
	if _, err := w.b.RequestSession(ctx, w.demo, want("small", 2)); broker.CodeOf(err) != broker.CodeCapacity {
		t.Errorf("a request for more than are young enough: %v", err)
	}
	s, err := w.b.RequestSession(ctx, w.demo, want("small", 1))
	if err != nil || s.Nodes[0].ID != good {
		t.Errorf("lent %+v, want node %d (%v)", s.Nodes, good, err)
	}
}

// One that replaces a node that failed is no older, either.
func TestNothingTooOldReplacesWhatFailed(t *testing.T) {
	w := newWorld(t, 0)
	p := testPool("small", broker.ContextualizeSSH)
	bad := w.addAged(p, time.Hour)
	w.addAged(p, 30*time.Hour)
	w.limitAge("small", 24*time.Hour)
	w.cloud.Fail = func(op string, n broker.Node) error {
		if op == "contextualize" && n.ID == bad {
			return fmt.Errorf("no route to host")
		}
		return nil
	}
	if _, err := w.b.RequestSession(context.Background(), w.demo, want("small", 1)); broker.CodeOf(err) != broker.CodeUnavailable {
		t.Errorf("got %v, want none to be left", err)
	}
}

// Nodes that were made at once are replaced at times that are spread, well before
// they are too old; the same node always at the same one.
func TestAgingIsSpread(t *testing.T) {
	p := broker.Pool{MaxAge: 24 * time.Hour}
	byHour := map[int]int{}
	for range 600 {
		n := broker.NewNode(p, t0)
		at := p.Aging(n)
		if again := p.Aging(n); !again.Equal(at) {
			t.Fatalf("node %s: %s, and then %s", n.UID, at, again)
		}
		if at.Before(t0.Add(15*time.Hour)) || at.After(t0.Add(21*time.Hour)) {
			t.Fatalf("node %s: after %s, want 15 to 21 hours", n.UID, at.Sub(t0))
		}
		byHour[int(at.Sub(t0).Hours())]++
	}
	for hour := 15; hour < 21; hour++ { // 100 each, give or take nine deviations
		if n := byHour[hour]; n < 20 || n > 180 {
			t.Errorf("%d of 600 nodes in hour %d: %v", n, hour, byHour)
		}
	}
	p.MaxAge = 0
	n := broker.NewNode(p, t0.Add(-1000*time.Hour))
	if !p.Aging(n).IsZero() || !p.Expiry(n).IsZero() || p.Expired(n, t0) {
		t.Error("a pool without a limit has nodes that are too old")
	}
}
