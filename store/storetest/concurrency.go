package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	workers = 8
	rounds  = 12
)

// together runs fn in several goroutines at once.
func together(fn func(worker int)) {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { fn(w) })
	}
	wg.Wait()
}

func (s *suite) testConcurrency(t *testing.T) {
	t.Run("no node is taken twice", func(t *testing.T) {
		store := s.store(t)
		stock := make([]broker.NodeState, 3*workers*rounds/2)
		for i := range stock {
			stock[i] = broker.NodeReady
		}
		createNodes(t, store, "a", stock...)
		var (
			mu    sync.Mutex
			owner = make(map[int64]int64)
			short int
		)
		together(func(worker int) {
			for range rounds { // in the end there is no stock left
				session, taken, err := reserve(t.Context(), store, int64(worker), 2)
				mu.Lock()
				switch {
				case broker.CodeOf(err) == broker.CodeCapacity:
					short++
				case err != nil:
					t.Error(err)
				}
				for _, id := range taken {
					if other, ok := owner[id]; ok {
						t.Errorf("node %d was given to session %d and to session %d", id, other, session)
					}
					owner[id] = session
				}
				mu.Unlock()
			}
		})
		if want := workers*rounds - len(stock)/2; short != want || len(owner) != len(stock) {
			t.Errorf("%d of %d nodes were taken, and %d requests got none, want %d", len(owner), len(stock), short, want)
		}
		for _, n := range read(t, store, nodes(broker.NodeQuery{})) {
			if n.State != broker.NodeReserved || n.SessionID != owner[n.ID] {
				t.Errorf("node %d is %s for session %d, want reserved for session %d", n.ID, n.State, n.SessionID, owner[n.ID])
			}
		}
		list := read(t, store, func(tx broker.ReadTx) ([]broker.Session, error) { return tx.Sessions(broker.SessionQuery{}) })
		if len(list) != len(stock)/2 {
			t.Errorf("%d sessions are stored, want %d: a refused one must leave nothing", len(list), len(stock)/2)
		}
	})
	t.Run("one of many wins", func(t *testing.T) {
		store := s.store(t)
		for range rounds {
			n := createNodes(t, store, "a", broker.NodeReady)[0]
			var won [workers]bool
			together(func(worker int) {
				n := n
				n.State, n.SessionID = broker.NodeReserved, int64(worker+1)
				err := store.Update(t.Context(), func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReady, n) })
				if won[worker] = err == nil; err != nil && !broker.IsTransition(err) {
					t.Error(err)
				}
			})
			got := read(t, store, nodeByID(n.ID))
			for worker, w := range won {
				if w != (got.SessionID == int64(worker+1)) {
					t.Errorf("worker %d: told that it won: %v, and the node belongs to session %d", worker, w, got.SessionID)
				}
			}
		}
	})
	t.Run("nothing is lost among errors and panics", s.testIsolation)
}

// reserve takes nodes as a request does: it writes before it knows whether there
// are enough.
func reserve(ctx context.Context, store broker.Store, tenant int64, quantity int) (session int64, taken []int64, err error) {
	err = store.Update(ctx, func(tx broker.Tx) error {
		taken = nil
		s := broker.Session{TenantID: tenant, State: broker.SessionActive}
		if err := tx.CreateSession(&s); err != nil {
			return err
		}
		session = s.ID
		ready, err := tx.Nodes(broker.NodeQuery{Pool: "a", States: []broker.NodeState{broker.NodeReady}, Limit: quantity})
		if err != nil {
			return err
		}
		if len(ready) < quantity {
			return broker.Errorf(broker.CodeCapacity, "%d nodes are ready", len(ready))
		}
		for _, n := range ready {
			n.State, n.SessionID = broker.NodeReserved, s.ID
			if err := tx.UpdateNode(broker.NodeReady, n); err != nil {
				return err
			}
			taken = append(taken, n.ID)
		}
		return nil
	})
	if err != nil {
		taken = nil
	}
	return session, taken, err
}

// testIsolation mixes good calls with such that fail or panic after writing, and
// with readers.
func (s *suite) testIsolation(t *testing.T) {
	store := s.store(t)
	var (
		mu   sync.Mutex
		want = make(map[string]int64) // message -> sequence number
	)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			err := store.View(t.Context(), func(tx broker.ReadTx) error {
				list, err := tx.Events(0, 1<<20)
				for i, e := range list {
					if e.Seq != int64(i+1) || e.Kind != "good" {
						t.Errorf("event %d is %q at %d", e.Seq, e.Kind, i)
					}
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	together(func(worker int) {
		for round := range rounds {
			message := fmt.Sprintf("worker %d, round %d", worker, round)
			var seq int64
			write := func(kind string) func(broker.Tx) error {
				return func(tx broker.Tx) error {
					e := broker.Event{At: start(), Kind: broker.EventKind(kind), Message: message}
					err := tx.AppendEvent(&e)
					seq = e.Seq
					return err
				}
			}
			switch (worker + round) % 4 {
			case 0:
				own := errors.New(message)
				err := store.Update(t.Context(), func(tx broker.Tx) error { return errors.Join(write("bad")(tx), own) })
				if !errors.Is(err, own) {
					t.Errorf("%s: got %v", message, err)
				}
			case 1:
				func() {
					defer func() {
						if r := recover(); r != message {
							t.Errorf("%s: recovered %v", message, r)
						}
					}()
					_ = store.Update(t.Context(), func(tx broker.Tx) error {
						_ = write("bad")(tx)
						panic(message)
					})
				}()
			default:
				if err := store.Update(t.Context(), write("good")); err != nil {
					t.Errorf("%s: %v", message, err)
				}
				mu.Lock()
				want[message] = seq
				mu.Unlock()
			}
		}
	})
	close(stop)
	readers.Wait()
	got := make(map[string]int64)
	for _, e := range read(t, store, events(0, 1<<20)) {
		got[e.Message] = e.Seq
	}
	same(t, "events by message", got, want)
}
