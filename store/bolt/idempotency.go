package bolt

import (
	"bytes"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func idempotencyKey(tenantID int64, key string) []byte { return append(idKey(tenantID), key...) }

func idempotencyTimeKey(i broker.Idempotency) []byte {
	return append(timeKey(i.CreatedAt), idempotencyKey(i.TenantID, i.Key)...)
}

// Idempotency implements [broker.ReadTx].
func (t *tx) Idempotency(tenantID int64, key string) (broker.Idempotency, error) {
	i, ok, err := read[broker.Idempotency](t, bucketIdempotency, idempotencyKey(tenantID, key))
	if err == nil && !ok {
		err = broker.Errorf(broker.CodeNotFound, "tenant %d has not used this idempotency key", tenantID)
	}
	return i, err
}

// SetIdempotency implements [broker.Tx].
func (t *tx) SetIdempotency(i broker.Idempotency) error {
	key := idempotencyKey(i.TenantID, i.Key)
	old, ok, err := read[broker.Idempotency](t, bucketIdempotency, key)
	if err != nil {
		return err
	}
	if ok {
		if err := t.remove(bucketIdempotencyByTime, idempotencyTimeKey(old)); err != nil {
			return err
		}
	}
	if err := t.write(bucketIdempotency, key, i); err != nil {
		return err
	}
	return t.put(bucketIdempotencyByTime, idempotencyTimeKey(i), nil)
}

// PruneIdempotency implements [broker.Tx].
func (t *tx) PruneIdempotency(before time.Time) (int, error) {
	var old [][]byte
	end := timeKey(before)
	err := t.scan(bucketIdempotencyByTime, nil, func(key, _ []byte) bool {
		if bytes.Compare(key[:len(end)], end) >= 0 {
			return false
		}
		old = append(old, bytes.Clone(key))
		return true
	})
	if err != nil {
		return 0, err
	}
	for _, key := range old { // a cursor can't be trusted while keys go
		if err := t.remove(bucketIdempotency, key[len(end):]); err != nil {
			return 0, err
		}
		if err := t.remove(bucketIdempotencyByTime, key); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}

func handoutsKey(tenantID int64, pool string) []byte { return append(idKey(tenantID), pool...) }

// Handouts implements [broker.ReadTx].
func (t *tx) Handouts() ([]broker.Handouts, error) {
	return readAll[broker.Handouts](t, bucketHandouts, nil, 0)
}

// AddHandouts implements [broker.Tx].
func (t *tx) AddHandouts(tenantID int64, pool string, nodes int) error {
	if err := named("the pool of a hand-out", pool); err != nil {
		return err
	}
	key := handoutsKey(tenantID, pool)
	h, _, err := read[broker.Handouts](t, bucketHandouts, key)
	if err != nil {
		return err
	}
	return t.write(bucketHandouts, key, broker.Handouts{TenantID: tenantID, Pool: pool, Nodes: h.Nodes + int64(nodes)})
}
