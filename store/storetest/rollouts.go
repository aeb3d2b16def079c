package storetest

import (
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *suite) testRollouts(t *testing.T) {
	store := s.store(t)
	rollout := func(pool string) broker.Rollout {
		t.Helper()
		return read(t, store, func(tx broker.ReadTx) (broker.Rollout, error) { return tx.Rollout(pool) })
	}
	set := func(r broker.Rollout) {
		t.Helper()
		update(t, store, func(tx broker.Tx) error { return tx.SetRollout(r) })
	}
	same(t, "rollout of an unknown pool", rollout("a"), broker.Rollout{Pool: "a"})

	var b broker.Rollout
	fill(&b)
	b.Pool = "b"
	a := broker.Rollout{Pool: "a", State: broker.RolloutRunning}
	set(b)
	set(a)
	same(t, "rollout", rollout("b"), b)
	same(t, "all rollouts", read(t, store, broker.ReadTx.Rollouts), []broker.Rollout{a, b})

	a.State = broker.RolloutDone
	set(a)
	set(broker.Rollout{Pool: "b", Reason: "forgotten"})
	set(broker.Rollout{Pool: "c"})
	same(t, "rollout that was removed", rollout("b"), broker.Rollout{Pool: "b"})
	same(t, "the others", read(t, store, broker.ReadTx.Rollouts), []broker.Rollout{a})

	for _, pool := range []string{"", "\xff"} {
		refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error {
			return tx.SetRollout(broker.Rollout{Pool: pool, State: broker.RolloutDone})
		})
	}
}
