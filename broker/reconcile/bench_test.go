package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// BenchmarkPlan plans for 10,000 nodes in 100 pools on a busy day: every pool is
// short of stock and has nodes to destroy, and a third of the nodes are lent.
func BenchmarkPlan(b *testing.B) {
	w := World{Runs: 64, Busy: map[int64]bool{}, Serving: map[string]bool{}}
	states := []broker.NodeState{
		broker.NodeReady, broker.NodeReady, broker.NodeReady, broker.NodeReady, broker.NodeReady,
		broker.NodeDeployed, broker.NodeDeployed, broker.NodeDeployed, broker.NodeReleasing, broker.NodeFailed,
	}
	id := int64(0)
	for i := range 100 {
		p := testPool(fmt.Sprintf("pool-%d", i), 60, 120)
		w.Pools = append(w.Pools, p)
		session := broker.Session{ID: int64(i + 1), State: broker.SessionActive, ExpiresAt: t0.Add(time.Hour)}
		for j := range 100 {
			id++
			n := testNode(id, p, states[j%len(states)])
			if n.State == broker.NodeDeployed {
				n.SessionID = session.ID
				session.Nodes = append(session.Nodes, broker.LentNode{ID: id, Pool: p.Name})
			}
			w.Nodes = append(w.Nodes, n)
		}
		w.Sessions = append(w.Sessions, session)
	}
	b.ReportAllocs()
	for b.Loop() {
		if actions, _ := Plan(t0, w); len(actions) != w.Runs {
			b.Fatalf("%d actions, want %d", len(actions), w.Runs)
		}
	}
}
