package memory

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func idempotencyKey(tenantID int64, key string) string { return fmt.Sprint(tenantID, " ", key) }

// Idempotency implements [broker.ReadTx].
func (t *tx) Idempotency(tenantID int64, key string) (broker.Idempotency, error) {
	i, ok := t.idempotent[idempotencyKey(tenantID, key)]
	if !ok {
		return i, broker.Errorf(broker.CodeNotFound, "tenant %d has not used this idempotency key", tenantID)
	}
	return clone(i)
}

// SetIdempotency implements [broker.Tx].
func (t *tx) SetIdempotency(i broker.Idempotency) error {
	return put(t, t.idempotent, idempotencyKey(i.TenantID, i.Key), i)
}

// PruneIdempotency implements [broker.Tx].
func (t *tx) PruneIdempotency(before time.Time) (int, error) {
	pruned := 0
	for _, key := range slices.Collect(maps.Keys(t.idempotent)) {
		if t.idempotent[key].CreatedAt.Before(before) {
			remove(t, t.idempotent, key)
			pruned++
		}
	}
	return pruned, nil
}

// Handouts implements [broker.ReadTx].
func (t *tx) Handouts() ([]broker.Handouts, error) {
	return list(t.handouts, 0, func(broker.Handouts) bool { return true })
}

// AddHandouts implements [broker.Tx].
func (t *tx) AddHandouts(tenantID int64, pool string, nodes int) error {
	if err := named("the pool of a hand-out", pool); err != nil {
		return err
	}
	key := fmt.Sprintf("%020d %s", tenantID, pool)
	return put(t, t.handouts, key, broker.Handouts{TenantID: tenantID, Pool: pool, Nodes: t.handouts[key].Nodes + int64(nodes)})
}
