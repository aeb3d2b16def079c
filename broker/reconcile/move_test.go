package reconcile_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// A pool that gets another name keeps its nodes, whatever happens to them just
// then: none is made or destroyed for the name.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Second }}
		w := newWorld(t, cloud, testPool("old", 4, 8), testPool("b", 1, 2))
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "old", Quantity: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond) // two more are being made
		live := func() (uids []string) {
			for _, n := range w.nodes() {
				if n.State != broker.NodeGone {
					uids = append(uids, n.UID)
				}
			}
			slices.Sort(uids)
			return uids
		}
		before := live()
		if got := w.states(); got[broker.NodeApplying] != 2 || got[broker.NodeDeployed] != 2 {
			t.Fatalf("states %v, want 2 nodes in the making and 2 lent", got)
		}
		err = w.loop.Change(func() error {
			if err := w.b.MovePools(t.Context(), []broker.Move{{From: "old", To: "new"}}); err != nil {
				return err
			}
			w.pools.Set([]broker.Pool{testPool("new", 4, 8), testPool("b", 1, 2)})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.loop.Wake()
		time.Sleep(time.Minute)
		w.check()
		if diff := cmp.Diff(before, live()); diff != "" {
			t.Errorf("nodes (-before +after the move):\n%s", diff)
		}
		for _, n := range w.nodes() {
			if n.Pool == "old" {
				t.Errorf("node %d belongs to the old name", n.ID)
			}
		}
		if s, err = w.b.Session(t.Context(), w.admin, s.ID); err != nil || s.Nodes[0].Pool != "old" {
			t.Errorf("the session says %+v, %v; want the name of when it was lent", s.Nodes, err)
		}
		if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.rest()
	})
}
