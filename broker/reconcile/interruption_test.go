package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

func interruption() broker.Notice {
	return broker.Notice{Kind: broker.NoticeInterruption, Action: "terminate"}
}

// interruptAny has some node say that it will be interrupted.
func (w *world) interruptAny(draw func(int) int) {
	nodes := w.nodes()
	if len(nodes) == 0 {
		return
	}
	if _, err := w.b.Notify(context.Background(), nodes[draw(len(nodes))], interruption()); err != nil {
		w.t.Errorf("notice: %v", err)
	}
}

// A node that will be interrupted is replaced at once, whatever is being done to
// it, and is never lent. That it then fails, since it goes away, is nobody's fault.
func TestInterruptedNodeIsReplaced(t *testing.T) {
	for name, tt := range map[string]struct {
		slow  string // so that the notice comes meanwhile
		state broker.NodeState
		fails bool
	}{
		"being made":           {"apply", broker.NodeApplying, false},
		"being made in vain":   {"apply", broker.NodeApplying, true},
		"being checked":        {"check", broker.NodeChecking, false},
		"being checked but it": {"check", broker.NodeChecking, true},
		"in stock":             {"", broker.NodeReady, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := &brokertest.Cloud{Delay: only(tt.slow, 10*time.Second)}
				var leaving atomic.Int64
				cloud.Fail = func(op string, n broker.Node) error {
					if op == tt.slow && tt.fails && n.ID == leaving.Load() {
						return errors.New("gone already")
					}
					return nil
				}
				w := newWorld(t, cloud, hostPool("a", 1, 2))
				w.addHosts(2)
				w.start()
				defer func() { w.stopLoop() }()
				time.Sleep(5 * time.Second)
				n := w.find(tt.state)
				leaving.Store(n.ID)
				if first, err := w.b.Notify(t.Context(), n, interruption()); err != nil || !first {
					t.Fatalf("%t, %v", first, err)
				}
				time.Sleep(time.Second)
				if got := w.nodes(); len(got) != 2 { // beside it, not after it
					t.Errorf("nodes a second later: %v", w.states())
				}
				time.Sleep(6 * time.Second) // it has failed, and the other one has not succeeded yet
				blamed := func() {
					t.Helper()
					err := w.store.View(t.Context(), func(tx broker.ReadTx) error {
						if h, err := tx.PoolHealth("a"); err != nil || h.Failures > 0 {
							t.Errorf("health of the pool: %+v, %v", h, err)
						}
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
					if got := w.hostStates(); strings.Contains(got, string(broker.HostQuarantined)) {
						t.Errorf("hosts: %s", got)
					}
				}
				blamed()
				time.Sleep(time.Minute)
				w.rest()
				blamed()
				if got := w.node(t, n.ID); got.State != broker.NodeGone {
					t.Errorf("node %d is %s", n.ID, got.State)
				}
				err := w.store.View(t.Context(), func(tx broker.ReadTx) error {
					events, err := tx.Events(0, 1000)
					for _, e := range events {
						if e.NodeID == n.ID && tt.state != broker.NodeReady && e.To == string(broker.NodeReady) {
							t.Errorf("it was in stock: %+v", e)
						}
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// A lent node is left to its tenant until the session ends.
func TestInterruptedNodeOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, new(brokertest.Cloud), testPool("a", 1, 3))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.b.Notify(t.Context(), w.node(t, s.Nodes[0].ID), interruption()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := w.states(); got[broker.NodeDeployed] != 1 || got[broker.NodeReady] != 1 {
			t.Errorf("states %v", got)
		}
		if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.rest()
	})
}
