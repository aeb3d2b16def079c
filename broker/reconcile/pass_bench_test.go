package reconcile

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// BenchmarkPass prints what a pass over full pools costs, on disk: one that reads
// everything, as all did before there was a copy, and does every five minutes; and
// those between, when nothing has changed, and when 100 nodes have. It measures
// itself, whatever -benchtime says.
func BenchmarkPass(b *testing.B) {
	for _, nodes := range []int{10_000, 30_000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			loop, lent := fullPools(b, nodes)
			whole := medianPass(b, loop, func(int) { loop.mirror = mirror{} })
			idle := medianPass(b, loop, func(int) {})
			busy := medianPass(b, loop, func(round int) {
				err := loop.cfg.Store.Update(b.Context(), func(tx broker.Tx) error {
					for _, id := range lent[round*100 : round*100+100] {
						n, err := tx.Node(id)
						if err != nil {
							return err
						}
						n.Attempts++
						if err := tx.UpdateNode(n.State, n); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			})
			b.Logf("a pass that reads all %.1f ms, with 100 changes %.1f ms (%.2f times), with none %.1f ms (%.2f times)",
				ms(whole), ms(busy), ms(busy)/ms(whole), ms(idle), ms(idle)/ms(whole))
			b.ReportMetric(ms(whole), "ms-whole")
			b.ReportMetric(ms(busy), "ms-busy")
			b.ReportMetric(ms(idle), "ms-idle")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// medianPass gives what the median of some passes takes, each after before.
func medianPass(b *testing.B, loop *Loop, before func(round int)) time.Duration {
	b.Helper()
	var took []time.Duration
	for round := range 15 {
		before(round)
		began := time.Now()
		if _, err := loop.pass(b.Context()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// fullPools gives a loop that has nothing to do, with a third of the nodes lent,
// and the ids of those.
func fullPools(b *testing.B, nodes int) (*Loop, []int64) {
	b.Helper()
	store, err := bolt.Open(filepath.Join(b.TempDir(), "db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	const pools, batch = 20, 1000
	var list []broker.Pool
	for i := range pools {
		list = append(list, testPool(fmt.Sprintf("pool-%d", i), 0, nodes))
	}
	now := time.Now()
	var lent []int64
	for i := 0; i < nodes; i += batch {
		err := store.Update(b.Context(), func(tx broker.Tx) error {
			session := broker.Session{TenantID: 1, State: broker.SessionActive, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
			if err := tx.CreateSession(&session); err != nil {
				return err
			}
			for j := range batch {
				pool := &list[j/3%pools]
				n := broker.NewNode(*pool, now)
				n.State, n.Address, n.SSHUser, n.SSHPort, n.HostKeys = broker.NodeReady, "127.0.0.1", "root", 22, []string{brokertest.HostKey}
				n.Source.Variables = []byte(`"c2VhbGVkIHZhcmlhYmxlcyBvZiBhIG5vZGUsIHdoaWNoIGFyZSBub3Qgc2hvcnQgaW4gcmVhbCBsaWZl"`)
				if j%3 == 0 {
					n.State, n.SessionID = broker.NodeDeployed, session.ID
				} else {
					pool.FillLevel++
				}
				if err := tx.CreateNode(&n); err != nil {
					return err
				}
				if n.SessionID != 0 {
					lent = append(lent, n.ID)
					session.Nodes = append(session.Nodes, broker.LentNode{ID: n.ID, Pool: n.Pool, Outputs: n.Outputs})
				}
			}
			return tx.UpdateSession(broker.SessionActive, session)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	set := new(broker.PoolSet)
	set.Set(list)
	loop := New(Config{
		Store: store, Pools: set, Log: slog.New(slog.DiscardHandler), Now: time.Now, Runs: 32, Serving: func() map[string]bool { return nil },
	})
	loop.tidied = now
	return loop, lent
}
