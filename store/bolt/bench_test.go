package bolt

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// parallel runs fn b.N times in so many goroutines.
func parallel(b *testing.B, goroutines int, fn func() error) {
	b.Helper()
	var (
		wg   sync.WaitGroup
		left atomic.Int64
	)
	left.Store(int64(b.N))
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

func openBenchmark(b *testing.B) *Store {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkUpdate stores one event a call.
func BenchmarkUpdate(b *testing.B) {
	for _, goroutines := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			s := openBenchmark(b)
			parallel(b, goroutines, func() error {
				return s.Update(b.Context(), func(tx broker.Tx) error {
					return tx.AppendEvent(&broker.Event{At: time.Unix(1, 0), Kind: broker.EventNode, Pool: "a", From: "ready", To: "reserved"})
				})
			})
		})
	}
}

// BenchmarkReserve hands one node out and takes it back, in a store of 10,000
// nodes of 10 pools, with all that a hand-out reads and writes.
func BenchmarkReserve(b *testing.B) {
	const pools, nodes = 10, 10_000
	s := openBenchmark(b)
	err := s.Update(b.Context(), func(tx broker.Tx) error {
		for i := range nodes {
			n := broker.NewNode(broker.Pool{Name: fmt.Sprint("pool-", i%pools)}, time.Unix(1, 0))
			if n.State = broker.NodeDeployed; i%2 == 0 {
				n.State = broker.NodeReady
			}
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	var turn atomic.Int64
	reserve := func() error {
		pool := fmt.Sprint("pool-", 2*(turn.Add(1)%(pools/2)))
		return s.Update(b.Context(), func(tx broker.Tx) error {
			ready, err := tx.Nodes(broker.NodeQuery{Pool: pool, States: []broker.NodeState{broker.NodeReady}, Limit: 1})
			if err != nil {
				return err
			}
			if len(ready) == 0 {
				return fmt.Errorf("%s has no ready node", pool)
			}
			session := broker.Session{TenantID: 1, State: broker.SessionActive, Nodes: []broker.LentNode{{ID: ready[0].ID, Pool: pool}}}
			if err := tx.CreateSession(&session); err != nil {
				return err
			}
			n := ready[0]
			if err := broker.MoveNode(tx, &n, broker.NodeReserved, time.Unix(1, 0), ""); err != nil {
				return err
			}
			return tx.UpdateNode(broker.NodeReserved, ready[0]) // back into stock
		})
	}
	for _, goroutines := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) { parallel(b, goroutines, reserve) })
	}
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			err := s.View(b.Context(), func(tx broker.ReadTx) error {
				_, err := tx.CountNodes("pool-0")
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list all", func(b *testing.B) {
		for b.Loop() {
			err := s.View(b.Context(), func(tx broker.ReadTx) error {
				_, err := tx.Nodes(broker.NodeQuery{States: broker.LiveNodeStates()})
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
