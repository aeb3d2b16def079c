package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// BenchmarkPlan plans on a busy day: every pool is short of stock and has nodes to
// destroy, and a third of the nodes are lent. What it costs should grow as the
// nodes do, and not with the size of a session.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []struct{ pools, nodes int }{{100, 100}, {100, 300}, {500, 60}, {10, 3000}} {
		b.Run(fmt.Sprintf("pools=%d/nodes=%d", size.pools, size.pools*size.nodes), func(b *testing.B) {
			benchmarkPlan(b, size.pools, size.nodes)
		})
	}
}

func benchmarkPlan(b *testing.B, pools, nodes int) {
	w := World{Runs: 64, Busy: map[int64]bool{}, Serving: map[string]bool{}}
	states := []broker.NodeState{
		broker.NodeReady, broker.NodeReady, broker.NodeReady, broker.NodeReady, broker.NodeReady,
		broker.NodeDeployed, broker.NodeDeployed, broker.NodeDeployed, broker.NodeReleasing, broker.NodeFailed,
	}
	id := int64(0)
	for i := range pools {
		p := testPool(fmt.Sprintf("pool-%d", i), nodes*6/10, nodes*12/10)
		w.Pools = append(w.Pools, p)
		session := broker.Session{ID: int64(i + 1), State: broker.SessionActive, ExpiresAt: t0.Add(time.Hour)}
		for j := range nodes {
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
		if actions, _ := Plan(t0, w); len(actions) == 0 {
			b.Fatal("no actions")
		}
	}
}
