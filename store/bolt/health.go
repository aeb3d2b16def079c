package bolt

import "github.com/duffy-broker/duffy-broker/broker"

// PoolHealth implements [broker.ReadTx].
func (t *tx) PoolHealth(pool string) (broker.PoolHealth, error) {
	h, ok, err := read[broker.PoolHealth](t, bucketPoolHealth, []byte(pool))
	if err == nil && !ok {
		h = broker.PoolHealth{Pool: pool}
	}
	return h, err
}

// PoolHealths implements [broker.ReadTx].
func (t *tx) PoolHealths() ([]broker.PoolHealth, error) {
	return readAll[broker.PoolHealth](t, bucketPoolHealth, nil, 0)
}

// SetPoolHealth implements [broker.Tx].
func (t *tx) SetPoolHealth(h broker.PoolHealth) error {
	if err := named("the pool of a health record", h.Pool); err != nil {
		return err
	}
	if h.Well() {
		return t.remove(bucketPoolHealth, []byte(h.Pool))
	}
	return t.write(bucketPoolHealth, []byte(h.Pool), h)
}
