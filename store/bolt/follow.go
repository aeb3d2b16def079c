package bolt

import "github.com/duffy-broker/duffy-broker/broker"

// Followed implements [broker.ReadTx].
func (t *tx) Followed(pool string) (broker.Followed, error) {
	f, ok, err := read[broker.Followed](t, bucketFollowed, []byte(pool))
	if err == nil && !ok {
		f = broker.Followed{Pool: pool}
	}
	return f, err
}

// SetFollowed implements [broker.Tx].
func (t *tx) SetFollowed(f broker.Followed) error {
	if err := named("the pool of followed outputs", f.Pool); err != nil {
		return err
	}
	if f.Base == "" {
		return t.remove(bucketFollowed, []byte(f.Pool))
	}
	return t.write(bucketFollowed, []byte(f.Pool), f)
}
