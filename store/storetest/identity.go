package storetest

import (
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *suite) testIdentity(t *testing.T) {
	store := s.store(t)
	lost(t, store, broker.ReadTx.Identity)

	want := broker.Identity{ID: broker.NewUUID(), CreatedAt: start()}
	update(t, store, func(tx broker.Tx) error { return tx.SetIdentity(want) })
	same(t, "identity", read(t, store, broker.ReadTx.Identity), want)

	refused(t, store, broker.CodeConflict, func(tx broker.Tx) error {
		return tx.SetIdentity(broker.Identity{ID: "another", CreatedAt: start()})
	})
	same(t, "identity after a second one", read(t, store, broker.ReadTx.Identity), want)

	want.KeyCheck = []byte("of another key")
	update(t, store, func(tx broker.Tx) error { return tx.SetIdentity(want) })
	same(t, "identity after a change", read(t, store, broker.ReadTx.Identity), want)
}
