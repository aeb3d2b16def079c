// Package storetest checks a [broker.Store] against its contract. Every store
// runs it in its own plain tests.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Opener gives a new, empty store. The suite closes it.
type Opener func(t *testing.T) broker.Store

// Ability is something that only some stores can do.
type Ability func(*suite)

// Persistent says that what was committed survives Close. Reopen is given a
// closed store and opens the same data again.
func Persistent(reopen func(t *testing.T, closed broker.Store) broker.Store) Ability {
	return func(s *suite) { s.reopen = reopen }
}

// Run runs the whole suite. After every test, a store with a method
// Check(context.Context) error has its own consistency checked.
func Run(t *testing.T, open Opener, abilities ...Ability) {
	s := &suite{open: open}
	for _, a := range abilities {
		a(s)
	}
	t.Run("identity", s.testIdentity)
	t.Run("nodes", s.testNodes)
	t.Run("hosts", s.testHosts)
	t.Run("sessions", s.testSessions)
	t.Run("tenants", s.testTenants)
	t.Run("health", s.testHealth)
	t.Run("rollouts", s.testRollouts)
	t.Run("followed", s.testFollowed)
	t.Run("events", s.testEvents)
	t.Run("runs", s.testRuns)
	t.Run("idempotency", s.testIdempotency)
	t.Run("hand-outs", s.testHandouts)
	t.Run("changes", s.testChanges)
	t.Run("transactions", s.testTransactions)
	t.Run("concurrency", s.testConcurrency)
	t.Run("persistence", s.testPersistence)
	t.Run("model", s.testModel)
}

type suite struct {
	open   Opener
	reopen func(t *testing.T, closed broker.Store) broker.Store
}

// store opens a store that is checked and closed when the test ends.
func (s *suite) store(t *testing.T) broker.Store {
	t.Helper()
	store := s.open(t)
	t.Cleanup(func() { finish(t, store) })
	return store
}

// finish checks and closes a store.
func finish(t *testing.T, store broker.Store) {
	t.Helper()
	if c, ok := store.(interface{ Check(context.Context) error }); ok {
		if err := c.Check(context.Background()); err != nil {
			t.Errorf("the store is not consistent after the test: %v", err)
		}
	}
	if err := store.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// restart closes a store and opens its data again.
func (s *suite) restart(t *testing.T, store broker.Store) broker.Store {
	t.Helper()
	finish(t, store)
	return s.reopen(t, store)
}

func update(t *testing.T, store broker.Store, fn func(broker.Tx) error) {
	t.Helper()
	if err := store.Update(t.Context(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t *testing.T, store broker.Store, fn func(broker.ReadTx) error) {
	t.Helper()
	if err := store.View(t.Context(), fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// read gives what one reading call gives, in a transaction of its own.
func read[T any](t *testing.T, store broker.Store, fn func(broker.ReadTx) (T, error)) (v T) {
	t.Helper()
	view(t, store, func(tx broker.ReadTx) (err error) {
		v, err = fn(tx)
		return err
	})
	return v
}

// refused runs fn and demands an error with this code, which fn gives back too.
func refused(t *testing.T, store broker.Store, code broker.Code, fn func(broker.Tx) error) error {
	t.Helper()
	err := store.Update(t.Context(), fn)
	if got := broker.CodeOf(err); got != code {
		t.Errorf("got error %v with code %q, want code %q", err, got, code)
	}
	return err
}

// lost demands CodeNotFound of a reading call.
func lost[T any](t *testing.T, store broker.Store, fn func(broker.ReadTx) (T, error)) {
	t.Helper()
	err := store.View(t.Context(), func(tx broker.ReadTx) error {
		_, err := fn(tx)
		return err
	})
	if got := broker.CodeOf(err); got != broker.CodeNotFound {
		t.Errorf("got error %v with code %q, want code %q", err, got, broker.CodeNotFound)
	}
}

// same compares values as a store may change them: times by instant, raw JSON by
// content, and no slice like an empty one.
func same(t interface {
	Helper()
	Errorf(format string, args ...any)
}, what string, got, want any,
) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.FilterValues(notBothEmpty, cmp.Comparer(sameJSON))); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// notBothEmpty: cmp wants to know one rule for a pair of values, not two.
func notBothEmpty(a, b json.RawMessage) bool { return len(a)+len(b) > 0 }

func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	if json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}

var errTest = errors.New("an error of the test")

// start is a time with everything that might get lost on the way.
func start() time.Time {
	return time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.FixedZone("", 2*60*60))
}

func node(pool string) broker.Node {
	return broker.Node{UID: broker.NewUID(), Pool: pool, State: broker.NodePlanned, Since: start(), CreatedAt: start()}
}

// createNodes stores one node of a pool for each state.
func createNodes(t *testing.T, store broker.Store, pool string, states ...broker.NodeState) (nodes []broker.Node) {
	t.Helper()
	update(t, store, func(tx broker.Tx) error {
		nodes = nil
		for _, state := range states {
			n := node(pool)
			n.State = state
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
			nodes = append(nodes, n)
		}
		return nil
	})
	return nodes
}

func nodes(q broker.NodeQuery) func(broker.ReadTx) ([]broker.Node, error) {
	return func(tx broker.ReadTx) ([]broker.Node, error) { return tx.Nodes(q) }
}

func nodeByID(id int64) func(broker.ReadTx) (broker.Node, error) {
	return func(tx broker.ReadTx) (broker.Node, error) { return tx.Node(id) }
}

func nodeByUID(uid string) func(broker.ReadTx) (broker.Node, error) {
	return func(tx broker.ReadTx) (broker.Node, error) { return tx.NodeByUID(uid) }
}

func idsOf(nodes []broker.Node) []int64 {
	ids := make([]int64, 0, len(nodes))
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	return ids
}
