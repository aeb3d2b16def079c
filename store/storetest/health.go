package storetest

import (
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *suite) testHealth(t *testing.T) {
	store := s.store(t)
	health := func(pool string) broker.PoolHealth {
		t.Helper()
		return read(t, store, func(tx broker.ReadTx) (broker.PoolHealth, error) { return tx.PoolHealth(pool) })
	}
	set := func(h broker.PoolHealth) {
		t.Helper()
		update(t, store, func(tx broker.Tx) error { return tx.SetPoolHealth(h) })
	}
	same(t, "health of an unknown pool", health("a"), broker.PoolHealth{Pool: "a"})

	var b broker.PoolHealth
	fill(&b)
	b.Pool = "b"
	a := broker.PoolHealth{Pool: "a", Failures: 1}
	set(b)
	set(a)
	same(t, "health", health("b"), b)
	same(t, "all health", read(t, store, broker.ReadTx.PoolHealths), []broker.PoolHealth{a, b})

	a.Failures = 2
	set(a)
	set(broker.PoolHealth{Pool: "b", LastFailure: start(), Message: "forgotten"})
	set(broker.PoolHealth{Pool: "c"})
	variants := broker.PoolHealth{Pool: "d", Variants: map[string]broker.VariantHealth{"near": {FailedAt: start(), Class: broker.FailureQuota}}}
	set(variants)
	same(t, "health of a pool that nothing but a variant failed of", health("d"), variants)
	variants.Variants = nil
	set(variants)
	same(t, "health of a recovered pool", health("b"), broker.PoolHealth{Pool: "b"})
	same(t, "health after the recovery", read(t, store, broker.ReadTx.PoolHealths), []broker.PoolHealth{a})

	for _, pool := range []string{"", "\xff"} {
		refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error {
			return tx.SetPoolHealth(broker.PoolHealth{Pool: pool, Failures: 1})
		})
	}
}
