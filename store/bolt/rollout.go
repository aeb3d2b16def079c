package bolt

import "github.com/duffy-broker/duffy-broker/broker"

// Rollout implements [broker.ReadTx].
func (t *tx) Rollout(pool string) (broker.Rollout, error) {
	r, ok, err := read[broker.Rollout](t, bucketRollouts, []byte(pool))
	if err == nil && !ok {
		r = broker.Rollout{Pool: pool}
	}
	return r, err
}

// Rollouts implements [broker.ReadTx].
func (t *tx) Rollouts() ([]broker.Rollout, error) {
	return readAll[broker.Rollout](t, bucketRollouts, nil, 0)
}

// SetRollout implements [broker.Tx].
func (t *tx) SetRollout(r broker.Rollout) error {
	if err := named("the pool of a rollout", r.Pool); err != nil {
		return err
	}
	if r.State == "" {
		return t.remove(bucketRollouts, []byte(r.Pool))
	}
	return t.write(bucketRollouts, []byte(r.Pool), r)
}
