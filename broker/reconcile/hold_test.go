package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// holdAny asks to hold some node, and gives up soon: then the request stays.
func (w *world) holdAny(draw func(int) int) {
	nodes := w.nodes()
	if len(nodes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n, err := w.b.HoldNode(ctx, w.admin, nodes[draw(len(nodes))].ID, "any history")
	if err == nil && n.State != broker.NodeHeld {
		w.t.Errorf("node %d was held, and is %s", n.ID, n.State)
	}
}

// releaseAny releases the first node that is held, or is to be, and tells whether
// there was one.
func (w *world) releaseAny() bool {
	for _, n := range w.nodes() {
		if n.Hold == nil {
			continue
		}
		if _, err := w.b.ReleaseHold(context.Background(), w.admin, n.ID); err != nil {
			w.t.Errorf("release node %d: %v", n.ID, err)
		}
		return true
	}
	return false
}

// only makes one operation of a cloud slow.
func only(slow string, d time.Duration) func(op string) time.Duration {
	return func(op string) time.Duration {
		if op == slow {
			return d
		}
		return 0
	}
}

// find gives the first node in a state, or fails.
func (w *world) find(state broker.NodeState) broker.Node {
	w.t.Helper()
	nodes := w.nodes()
	i := slices.IndexFunc(nodes, func(n broker.Node) bool { return n.State == state })
	if i < 0 {
		w.t.Fatalf("no node is %s: %v", state, w.states())
	}
	return nodes[i]
}

// A node of the stock that is held is left alone for ever, also over a restart,
// a new generation and the end of its pool; its pool is refilled meanwhile, and
// when it is released it returns.
func TestHoldSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := new(brokertest.Cloud)
		w := newWorld(t, cloud, testPool("a", 2, 4))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		n, err := w.b.HoldNode(t.Context(), w.admin, 1, "looking at it")
		if err != nil || n.State != broker.NodeHeld || n.Hold.From != broker.NodeReady {
			t.Fatalf("got %+v, %v", n, err)
		}
		time.Sleep(time.Minute)
		if got := w.states(); got[broker.NodeReady] != 2 || got[broker.NodeHeld] != 1 {
			t.Errorf("states %v, want the stock refilled beside the held node", got)
		}
		w.stopLoop()
		next := testPool("a", 2, 4)
		next.Source.Generation = "g2"
		w.pools.Set([]broker.Pool{next})
		w.start()
		time.Sleep(time.Hour)
		w.pools.Set(nil)
		time.Sleep(time.Hour)
		if got := w.states(); got[broker.NodeHeld] != 1 || got[broker.NodeReady] != 0 {
			t.Errorf("states %v, want nothing but the held node", got)
		}
		w.pools.Set([]broker.Pool{testPool("a", 2, 4)})
		time.Sleep(time.Hour)
		destroys := cloud.Calls("destroy")
		if n, err = w.b.ReleaseHold(t.Context(), w.admin, n.ID); err != nil || n.State != broker.NodeChecking || n.Hold != nil {
			t.Fatalf("got %+v, %v", n, err)
		}
		time.Sleep(time.Minute)
		w.rest()
		if got := cloud.Calls("destroy") - destroys; got != 1 {
			t.Errorf("%d nodes were destroyed, want the one that is too many", got)
		}
		if n := w.node(t, n.ID); n.State != broker.NodeGone { // the oldest goes
			t.Errorf("node %d is %s", n.ID, n.State)
		}
	})
}

func (w *world) node(t *testing.T, id int64) (n broker.Node) {
	t.Helper()
	err := w.store.View(t.Context(), func(tx broker.ReadTx) (err error) {
		n, err = tx.Node(id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A hold waits for the destroy in progress, and nothing that this finds out is
// lost.
func TestHoldDuringDestroy(t *testing.T) {
	tests := map[string]struct {
		fails, blind bool
		code         broker.Code
		state        broker.NodeState
	}{
		"it succeeds":                 {code: broker.CodeConflict, state: broker.NodeGone},
		"it fails":                    {fails: true, state: broker.NodeHeld},
		"it fails, and tells nothing": {fails: true, blind: true, state: broker.NodeHeld},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fails atomic.Bool
				fails.Store(test.fails)
				cloud := &brokertest.Cloud{
					Blind: test.blind,
					Delay: only("destroy", time.Minute),
					Fail: func(op string, _ broker.Node) error {
						if op == "destroy" && fails.Load() {
							return errors.New("dependency violation")
						}
						return nil
					},
				}
				w := newWorld(t, cloud, testPool("a", 1, 2))
				w.start()
				defer func() { w.stopLoop() }()
				time.Sleep(3 * time.Minute)
				w.pools.Set([]broker.Pool{testPool("a", 0, 2)})
				time.Sleep(45 * time.Second)
				n := w.find(broker.NodeDestroying)
				held, err := w.b.HoldNode(t.Context(), w.admin, n.ID, "")
				if broker.CodeOf(err) != test.code {
					t.Fatalf("got %v, want code %q", err, test.code)
				}
				if n = w.node(t, n.ID); n.State != test.state || err == nil && held.Hold.From != broker.NodeDestroying {
					t.Fatalf("the node is %s: %+v", n.State, held)
				}
				if test.state == broker.NodeGone {
					if n.Hold != nil || broker.MessageOf(err) != fmt.Sprintf("node %d was destroyed before it could be held", n.ID) {
						t.Errorf("hold %+v, error %v", n.Hold, err)
					}
					w.rest()
					return
				}
				time.Sleep(time.Hour)
				if got := cloud.Calls("destroy"); got != 1 {
					t.Errorf("%d destroys, want the one that was in progress", got)
				}
				if got := string(w.terraform(n.UID)); got != "state of "+n.UID {
					t.Errorf("the state is %q", got)
				}
				if n.Failure != "destroy: dependency violation" {
					t.Errorf("failure %q", n.Failure)
				}
				fails.Store(false)
				if n, err = w.b.ReleaseHold(t.Context(), w.admin, n.ID); err != nil || n.State != broker.NodeDestroying {
					t.Fatalf("released: %+v, %v", n, err)
				}
				time.Sleep(5 * time.Minute)
				w.rest()
			})
		})
	}
}

// The destroy that an earlier process began is waited for, too: it runs though
// nobody is busy with the node here.
func TestHoldWaitsForRunsOfAnEarlierProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool("a", 0, 2)
		cloud := &brokertest.Cloud{Delay: only("settle", time.Minute)}
		w := newWorld(t, cloud, p)
		n := broker.NewNode(p, time.Now())
		n.State, n.Hold = broker.NodeDestroying, &broker.Hold{By: "admin", Since: time.Now(), From: broker.NodeDestroying}
		if err := w.store.Update(t.Context(), func(tx broker.Tx) error { n.ID = 0; return tx.CreateNode(&n) }); err != nil {
			t.Fatal(err)
		}
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(30 * time.Second)
		if got := w.node(t, n.ID).State; got != broker.NodeDestroying {
			t.Errorf("the node is %s while its destroy goes on", got)
		}
		time.Sleep(31 * time.Second)
		if got := w.node(t, n.ID).State; got != broker.NodeHeld {
			t.Errorf("the node is %s after the end of its destroy", got)
		}
		if got := cloud.Calls("destroy"); got != 0 {
			t.Errorf("%d destroys were begun", got)
		}

		// Taken back while it is waited for.
		n.ID, n.UID = 0, broker.NewUID()
		if err := w.store.Update(t.Context(), func(tx broker.Tx) error { n.ID = 0; return tx.CreateNode(&n) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // more than a tick, less than that and the waiting
		if _, err := w.b.ReleaseHold(t.Context(), w.admin, n.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if got := w.node(t, n.ID).State; got != broker.NodeGone {
			t.Errorf("the node is %s", got)
		}
	})
}

// A node that is being checked when somebody asks for it is never lent: it goes
// from its check to the person.
func TestHoldDuringCheck(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cloud := &brokertest.Cloud{Delay: only("check", 10*time.Second)}
			cloud.Fail = func(op string, n broker.Node) error {
				if op == "check" && fails && n.ID == 1 {
					return errors.New("connection refused")
				}
				return nil
			}
			w := newWorld(t, cloud, testPool("a", 1, 1))
			w.start()
			defer func() { w.stopLoop() }()
			time.Sleep(5 * time.Second)
			w.find(broker.NodeChecking)
			var tenants sync.WaitGroup
			stop, ended := context.WithCancel(t.Context())
			tenants.Go(func() {
				for stop.Err() == nil {
					if _, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}}); err == nil {
						t.Error("a node that was to be held was lent")
					}
					time.Sleep(time.Millisecond)
				}
			})
			n, err := w.b.HoldNode(t.Context(), w.admin, 1, "")
			want := broker.NodeReady
			if fails {
				want = broker.NodeFailed
			}
			if err != nil || n.State != broker.NodeHeld || n.Hold.From != want {
				t.Errorf("got %+v, %v; want it held, from %s", n, err, want)
			}
			ended()
			tenants.Wait()
			if _, err := w.b.ReleaseHold(t.Context(), w.admin, 1); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			w.rest()
		})
	}
}

// A request that is taken back leaves everything as if it had not been.
func TestHoldTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: only("check", 30*time.Second)}
		w := newWorld(t, cloud, testPool("a", 1, 2))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(10 * time.Second)
		w.find(broker.NodeChecking)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if n, err := w.b.HoldNode(t.Context(), w.admin, 1, ""); broker.CodeOf(err) != broker.CodeConflict {
				t.Errorf("whoever waits for the hold gets %+v, %v", n, err)
			}
		})
		time.Sleep(5 * time.Second)
		if n, err := w.b.ReleaseHold(t.Context(), w.admin, 1); err != nil || n.State != broker.NodeChecking {
			t.Errorf("got %+v, %v", n, err)
		}
		waiting.Wait()
		time.Sleep(18 * time.Second)
		if got := w.node(t, 1).State; got != broker.NodeReady {
			t.Errorf("the node is %s", got)
		}
		time.Sleep(10 * time.Minute) // the pool made another one meanwhile: one has to go
		w.rest()
	})
}
