package memory

import "github.com/duffy-broker/duffy-broker/broker"

// PoolHealth implements [broker.ReadTx].
func (t *tx) PoolHealth(pool string) (broker.PoolHealth, error) {
	h := t.health[pool]
	h.Pool = pool
	return h, nil
}

// PoolHealths implements [broker.ReadTx].
func (t *tx) PoolHealths() ([]broker.PoolHealth, error) {
	return list(t.health, 0, func(broker.PoolHealth) bool { return true })
}

// SetPoolHealth implements [broker.Tx].
func (t *tx) SetPoolHealth(h broker.PoolHealth) error {
	if err := named("the pool of a health record", h.Pool); err != nil {
		return err
	}
	if h.Well() {
		remove(t, t.health, h.Pool)
		return nil
	}
	return put(t, t.health, h.Pool, h)
}
