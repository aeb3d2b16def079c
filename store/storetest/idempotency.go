package storetest

import (
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func idempotency(tenant int64, key string) func(broker.ReadTx) (broker.Idempotency, error) {
	return func(tx broker.ReadTx) (broker.Idempotency, error) { return tx.Idempotency(tenant, key) }
}

func setIdempotency(t *testing.T, store broker.Store, list ...broker.Idempotency) {
	t.Helper()
	update(t, store, func(tx broker.Tx) error {
		for _, i := range list {
			if err := tx.SetIdempotency(i); err != nil {
				return err
			}
		}
		return nil
	})
}

func pruneIdempotency(t *testing.T, store broker.Store, before time.Time) (n int) {
	t.Helper()
	update(t, store, func(tx broker.Tx) (err error) {
		n, err = tx.PruneIdempotency(before)
		return err
	})
	return n
}

func (s *suite) testIdempotency(t *testing.T) {
	t.Run("keys", func(t *testing.T) {
		store := s.store(t)
		var i broker.Idempotency
		fill(&i)
		i.TenantID, i.Key = 1, "k"
		foreign, other := broker.Idempotency{TenantID: 256, Key: "k", SessionID: 2}, broker.Idempotency{TenantID: 1, Key: "k2", SessionID: 3}
		setIdempotency(t, store, i, foreign, other)
		for _, want := range []broker.Idempotency{i, foreign, other} {
			same(t, "idempotency", read(t, store, idempotency(want.TenantID, want.Key)), want)
		}
		lost(t, store, idempotency(2, "k"))
		lost(t, store, idempotency(1, "k3"))
		i.SessionID, i.CreatedAt = 9, start().Add(time.Hour)
		setIdempotency(t, store, i)
		same(t, "after it was replaced", read(t, store, idempotency(1, "k")), i)
	})
	t.Run("prune", func(t *testing.T) {
		store := s.store(t)
		at := func(key string, d time.Duration) broker.Idempotency {
			return broker.Idempotency{TenantID: 1, Key: key, CreatedAt: start().Add(d)}
		}
		setIdempotency(t, store, at("b", 2), at("a", 1), at("old", 0), at("again", 0), at("again", 3))
		if got := pruneIdempotency(t, store, start().Add(2).UTC()); got != 2 {
			t.Errorf("pruned %d, want 2", got)
		}
		lost(t, store, idempotency(1, "old"))
		lost(t, store, idempotency(1, "a"))
		same(t, "what is young enough", read(t, store, idempotency(1, "b")), at("b", 2))
		same(t, "what was renewed", read(t, store, idempotency(1, "again")), at("again", 3))
	})
}

func (s *suite) testHandouts(t *testing.T) {
	store := s.store(t)
	same(t, "at first", read(t, store, broker.ReadTx.Handouts), []broker.Handouts(nil))
	update(t, store, func(tx broker.Tx) error {
		for _, h := range []broker.Handouts{
			{TenantID: 256, Pool: "a", Nodes: 1}, {TenantID: 2, Pool: "b", Nodes: 2}, {TenantID: 2, Pool: "a", Nodes: 3}, {TenantID: 2, Pool: "b", Nodes: 4}, {TenantID: 2, Pool: "aa", Nodes: 5},
		} {
			if err := tx.AddHandouts(h.TenantID, h.Pool, int(h.Nodes)); err != nil {
				return err
			}
		}
		return nil
	})
	same(t, "hand-outs", read(t, store, broker.ReadTx.Handouts), []broker.Handouts{
		{TenantID: 2, Pool: "a", Nodes: 3}, {TenantID: 2, Pool: "aa", Nodes: 5}, {TenantID: 2, Pool: "b", Nodes: 6}, {TenantID: 256, Pool: "a", Nodes: 1},
	})
	for _, pool := range []string{"", "\xff"} {
		refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.AddHandouts(1, pool, 1) })
	}
}
