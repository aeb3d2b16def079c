package storetest

import (
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *suite) testFollowed(t *testing.T) {
	store := s.store(t)
	followed := func(pool string) broker.Followed {
		t.Helper()
		return read(t, store, func(tx broker.ReadTx) (broker.Followed, error) { return tx.Followed(pool) })
	}
	set := func(f broker.Followed) {
		t.Helper()
		update(t, store, func(tx broker.Tx) error { return tx.SetFollowed(f) })
	}
	same(t, "unknown pool", followed("a"), broker.Followed{Pool: "a"})

	var b broker.Followed
	fill(&b)
	b.Pool = "b"
	a := broker.Followed{Pool: "a", Base: "x"}
	set(b)
	set(a)
	same(t, "record", followed("b"), b)
	for name := range b.Values { // both ways, what is given and taken are copies
		b.Values[name] += "!"
		followed("b").Values[name] = "?"
		same(t, "record after its copies changed", followed("b").Values[name]+"!", b.Values[name])
	}

	set(broker.Followed{Pool: "b"})
	same(t, "record that was removed", followed("b"), broker.Followed{Pool: "b"})
	same(t, "the other one", followed("a"), a)

	for _, pool := range []string{"", "\xff"} {
		refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error {
			return tx.SetFollowed(broker.Followed{Pool: pool, Base: "x"})
		})
	}
}
