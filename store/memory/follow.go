package memory

import "github.com/duffy-broker/duffy-broker/broker"

// Followed implements [broker.ReadTx].
func (t *tx) Followed(pool string) (broker.Followed, error) {
	f, ok := t.followed[pool]
	if !ok {
		return broker.Followed{Pool: pool}, nil
	}
	return clone(f)
}

// SetFollowed implements [broker.Tx].
func (t *tx) SetFollowed(f broker.Followed) error {
	if err := named("the pool of followed outputs", f.Pool); err != nil {
		return err
	}
	if f.Base == "" {
		remove(t, t.followed, f.Pool)
		return nil
	}
	return put(t, t.followed, f.Pool, f)
}
