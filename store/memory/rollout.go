package memory

import "github.com/duffy-broker/duffy-broker/broker"

// Rollout implements [broker.ReadTx].
func (t *tx) Rollout(pool string) (broker.Rollout, error) {
	r := t.rollouts[pool]
	r.Pool = pool
	return r, nil
}

// Rollouts implements [broker.ReadTx].
func (t *tx) Rollouts() ([]broker.Rollout, error) {
	return list(t.rollouts, 0, func(broker.Rollout) bool { return true })
}

// SetRollout implements [broker.Tx].
func (t *tx) SetRollout(r broker.Rollout) error {
	if err := named("the pool of a rollout", r.Pool); err != nil {
		return err
	}
	if r.State == "" {
		remove(t, t.rollouts, r.Pool)
		return nil
	}
	return put(t, t.rollouts, r.Pool, r)
}
