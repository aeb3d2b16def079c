package storetest

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

// copied is a copy of nodes and sessions that is kept up to date by Changes.
type copied struct {
	version  broker.Version
	nodes    map[int64]broker.Node
	sessions map[int64]broker.Session
	known    int // how often Changes knew
}

// follow reads what has changed, and compares the copy with the whole.
func (c *copied) follow(t interface {
	Helper()
	Errorf(format string, args ...any)
}, tx broker.ReadTx,
) error {
	t.Helper()
	changes, err := tx.Changes(c.version)
	if err != nil {
		return err
	}
	nodes, err := tx.Nodes(broker.NodeQuery{})
	if err != nil {
		return err
	}
	sessions, err := tx.Sessions(broker.SessionQuery{})
	if err != nil {
		return err
	}
	if changes.Version < c.version {
		t.Errorf("version %d comes after %d", changes.Version, c.version)
	}
	c.version = changes.Version
	if !changes.Known {
		c.nodes, c.sessions = byID(nodes, func(n broker.Node) int64 { return n.ID }), byID(sessions, func(s broker.Session) int64 { return s.ID })
		return nil
	}
	c.known++
	if err := refresh(c.nodes, changes.Nodes, tx.Node); err != nil {
		return err
	}
	if err := refresh(c.sessions, changes.Sessions, tx.Session); err != nil {
		return err
	}
	same(t, "nodes by their changes", slices.SortedFunc(maps.Values(c.nodes), func(a, b broker.Node) int { return int(a.ID - b.ID) }), nodes)
	same(t, "sessions by their changes", slices.SortedFunc(maps.Values(c.sessions), func(a, b broker.Session) int { return int(a.ID - b.ID) }), sessions)
	return nil
}

func byID[T any](list []T, id func(T) int64) map[int64]T {
	m := make(map[int64]T, len(list))
	for _, v := range list {
		m[id(v)] = v
	}
	return m
}

func refresh[T any](m map[int64]T, ids []int64, get func(int64) (T, error)) error {
	for _, id := range ids {
		v, err := get(id)
		switch {
		case broker.CodeOf(err) == broker.CodeNotFound:
			delete(m, id)
		case err != nil:
			return err
		default:
			m[id] = v
		}
	}
	return nil
}

func (s *suite) testChanges(t *testing.T) {
	t.Run("every write counts", func(t *testing.T) {
		store := s.store(t)
		var c copied
		follow := func(tx broker.ReadTx) error { return c.follow(t, tx) }
		view(t, store, follow)
		n := createNodes(t, store, "a", broker.NodeReady, broker.NodeReady)[0]
		view(t, store, follow)
		n.State = broker.NodeReserved
		update(t, store, func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReady, n) })
		view(t, store, follow)
		n.Touched = true // its state stays
		update(t, store, func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReserved, n) })
		view(t, store, follow)
		session := broker.Session{TenantID: 1, State: broker.SessionActive}
		update(t, store, func(tx broker.Tx) error { session.ID = 0; return tx.CreateSession(&session) })
		view(t, store, follow)
		session.ExpiresAt = start()
		update(t, store, func(tx broker.Tx) error { return tx.UpdateSession(broker.SessionActive, session) })
		view(t, store, follow)
		n.State = broker.NodeGone
		update(t, store, func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReserved, n) })
		view(t, store, follow)
		update(t, store, func(tx broker.Tx) error { return tx.DeleteNode(n.ID) })
		view(t, store, follow)
		view(t, store, follow) // nothing
	})
	t.Run("what is undone does no harm", func(t *testing.T) {
		store := s.store(t)
		var c copied
		n := createNodes(t, store, "a", broker.NodeReady)[0]
		follow := func(tx broker.ReadTx) error { return c.follow(t, tx) }
		view(t, store, follow)
		for range 3 {
			err := store.Update(t.Context(), func(tx broker.Tx) error {
				if err := tx.UpdateNode(broker.NodeReady, n); err != nil {
					return err
				}
				return errTest
			})
			if err != errTest { //nolint:errorlint // as it is, the contract says
				t.Fatal(err)
			}
			view(t, store, follow)
			n.Attempts++
			update(t, store, func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReady, n) })
			view(t, store, follow)
		}
	})
	t.Run("no version, and no reader", func(t *testing.T) {
		store := s.store(t)
		createNodes(t, store, "a", broker.NodeReady)
		for _, since := range []broker.Version{0, 1 << 40, 1<<64 - 1} {
			if c := read(t, store, func(tx broker.ReadTx) (broker.Changes, error) { return tx.Changes(since) }); c.Known {
				t.Errorf("since version %d: %+v", since, c)
			}
		}
		now := read(t, store, func(tx broker.ReadTx) (broker.Changes, error) { return tx.Changes(0) }).Version
		update(t, store, func(tx broker.Tx) error {
			c, err := tx.Changes(now)
			if c.Known || c.Version != 0 {
				t.Errorf("while writing: %+v", c)
			}
			return err
		})
	})
	t.Run("writers at once", func(t *testing.T) {
		store := s.store(t)
		stock := createNodes(t, store, "a", slices.Repeat([]broker.NodeState{broker.NodeReady}, workers)...)
		var c copied
		done := make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			for last := false; !last; {
				select {
				case <-done:
					last = true
				default:
				}
				if err := store.View(t.Context(), func(tx broker.ReadTx) error { return c.follow(t, tx) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
		together(func(worker int) {
			n := stock[worker]
			for i := range 4 * rounds {
				n.Attempts = i
				err := store.Update(t.Context(), func(tx broker.Tx) error {
					if err := tx.UpdateNode(broker.NodeReady, n); err != nil {
						return err
					}
					if i%5 == worker%5 {
						return errTest // others of its group run again
					}
					return nil
				})
				if err != nil && err != errTest { //nolint:errorlint // as it is, the contract says
					t.Error(err)
				}
			}
		})
		close(done)
		reader.Wait()
		t.Logf("changes were known %d times", c.known)
	})
}
