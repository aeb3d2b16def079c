package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// dying is a store whose process dies at its n-th commit, just before it or just
// after: nothing can be read or written from then on, until it is revived.
type dying struct {
	broker.Store

	mu      sync.Mutex
	commits int
	at      int  // 0: never
	after   bool // the commit at which it dies is made
	dead    bool
}

var errDead = errors.New("the process is dead")

func (d *dying) View(ctx context.Context, fn func(broker.ReadTx) error) error {
	d.mu.Lock()
	dead := d.dead
	d.mu.Unlock()
	if dead {
		return errDead
	}
	return d.Store.View(ctx, fn)
}

func (d *dying) Update(ctx context.Context, fn func(broker.Tx) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	d.commits++
	d.dead = d.commits == d.at
	if d.dead && !d.after {
		return errDead
	}
	err := d.Store.Update(ctx, fn)
	if d.dead {
		return errDead
	}
	return err
}

func (d *dying) revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead, d.at = false, 0
}

// A process that dies at any commit of a node's whole life, just before it or
// just after, leaves nothing that the next one does not bring to an end: what
// exists is what the store knows, stock gets full, and what was lent is left
// alone.
func TestCrashAtEveryWritePoint(t *testing.T) {
	points := 0
	for i := range 4 {
		after, hosts := i%2 == 1, i/2 == 1 // hosts: the pool draws from an inventory
		for at := 1; ; at++ {
			died := false
			t.Run(fmt.Sprintf("commit %d, made %t, hosts %t", at, after, hosts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { died = crashAt(t, at, after, hosts) })
			})
			if !died {
				break
			}
			points++
		}
	}
	if points < 80 {
		t.Errorf("only %d points: that is not a whole life", points)
	}
}

func crashAt(t *testing.T, at int, after, hosts bool) (died bool) {
	cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Second }}
	w := newWorld(t, cloud, testPool("a", 2, 4))
	if hosts {
		p := testPool("a", 2, 9)
		p.Inventory = broker.HostSelector{Name: "i"}
		w.pools.Set([]broker.Pool{p})
		w.addHosts(4)
	}
	store := &dying{Store: w.store}
	w.store = store
	w.start() // not counted: the tenant is made here
	store.mu.Lock()
	store.commits, store.at, store.after = 0, at, after
	store.mu.Unlock()
	defer func() { w.stopLoop() }()
	ctx := t.Context()
	time.Sleep(time.Minute)
	spec := broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}}
	kept, keptErr := w.b.RequestSession(ctx, w.admin, spec)
	given, givenErr := w.b.RequestSession(ctx, w.admin, spec)
	var retireErr error
	if givenErr == nil {
		_, retireErr = w.b.UpdateSession(ctx, w.admin, given.ID, broker.SessionUpdate{Retire: true})
	}
	time.Sleep(time.Minute)
	store.mu.Lock()
	died = store.dead
	store.mu.Unlock()

	w.stopLoop()
	store.revive()
	w.start()
	time.Sleep(15 * time.Minute)
	if keptErr == nil { // it was acknowledged
		s, err := w.b.Session(ctx, w.admin, kept.ID)
		if err != nil || s.State != broker.SessionActive || len(s.Nodes) != 1 {
			t.Errorf("session %d was acknowledged, and is %+v (%v)", kept.ID, s, err)
		}
		for _, n := range w.nodes() {
			if n.ID == kept.Nodes[0].ID && (n.State != broker.NodeDeployed || w.cloud.Keys(n.UID) == "") {
				t.Errorf("node %d was lent, and is %s with the key %q", n.ID, n.State, w.cloud.Keys(n.UID))
			}
		}
	}
	// What nobody was told of may be there: its tenant can see it, and it ends.
	sessions, err := w.b.Sessions(ctx, w.admin)
	if err != nil {
		t.Fatal(err)
	}
	if retireErr == nil && givenErr == nil && len(sessions) > 1 {
		t.Errorf("%d sessions are active, want 1 at most", len(sessions))
	}
	for _, s := range sessions {
		if _, err := w.b.UpdateSession(ctx, w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(15 * time.Minute)
	w.rest()
	return died
}
