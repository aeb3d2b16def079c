package storetest

import (
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func tenantByID(id int64) func(broker.ReadTx) (broker.Tenant, error) {
	return func(tx broker.ReadTx) (broker.Tenant, error) { return tx.Tenant(id) }
}

func tenantByName(name string) func(broker.ReadTx) (broker.Tenant, error) {
	return func(tx broker.ReadTx) (broker.Tenant, error) { return tx.TenantByName(name) }
}

func (s *suite) testTenants(t *testing.T) {
	t.Run("every field comes back, and is a copy", func(t *testing.T) {
		store := s.store(t)
		var n, want broker.Tenant
		fill(&n)
		fill(&want)
		want.ID = 1
		update(t, store, func(tx broker.Tx) error { return tx.CreateTenant(&n) })
		same(t, "what CreateTenant hands out", n, want)
		spoil(&n)
		same(t, "tenant after the argument of CreateTenant was changed", read(t, store, tenantByID(1)), want)
		update(t, store, func(tx broker.Tx) error {
			fill(&n)
			n.ID = 1
			if err := tx.UpdateTenant(n); err != nil {
				return err
			}
			spoil(&n)
			return nil
		})
		for _, get := range []func(broker.ReadTx) (broker.Tenant, error){tenantByID(1), tenantByName(want.Name)} {
			got := read(t, store, get)
			same(t, "tenant", got, want)
			spoil(&got)
		}
		spoil(&read(t, store, broker.ReadTx.Tenants)[0])
		same(t, "tenants after results were changed", read(t, store, broker.ReadTx.Tenants), []broker.Tenant{want})
	})
	t.Run("unknown", func(t *testing.T) {
		store := s.store(t)
		lost(t, store, tenantByID(1))
		lost(t, store, tenantByName("nobody"))
		lost(t, store, tenantByName(""))
		refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error { return tx.UpdateTenant(broker.Tenant{ID: 1, Name: "a"}) })
	})
	t.Run("names", func(t *testing.T) {
		store := s.store(t)
		alice, bob := broker.Tenant{Name: "alice"}, broker.Tenant{Name: "bob"}
		update(t, store, func(tx broker.Tx) error {
			alice.ID, bob.ID = 0, 0
			if err := tx.CreateTenant(&alice); err != nil {
				return err
			}
			return tx.CreateTenant(&bob)
		})
		refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.CreateTenant(&broker.Tenant{Name: "bob"}) })
		refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.UpdateTenant(broker.Tenant{ID: alice.ID, Name: "bob"}) })
		refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.CreateTenant(&broker.Tenant{Name: "\xff"}) })
		refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.UpdateTenant(broker.Tenant{ID: bob.ID, Name: "\xff"}) })
		same(t, "tenants after refused writes", read(t, store, broker.ReadTx.Tenants), []broker.Tenant{alice, bob})

		update(t, store, func(tx broker.Tx) error { // the names change places
			for _, n := range []broker.Tenant{{ID: alice.ID, Name: "x"}, {ID: bob.ID, Name: "alice"}, {ID: alice.ID, Name: "bob"}} {
				if err := tx.UpdateTenant(n); err != nil {
					return err
				}
			}
			return nil
		})
		same(t, "bob's id", read(t, store, tenantByName("bob")).ID, alice.ID)
		same(t, "alice's id", read(t, store, tenantByName("alice")).ID, bob.ID)
		lost(t, store, tenantByName("x"))

		nameless := broker.Tenant{} // Duffy allows it
		update(t, store, func(tx broker.Tx) error { nameless.ID = 0; return tx.CreateTenant(&nameless) })
		refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.CreateTenant(&broker.Tenant{}) })
		same(t, "the nameless one's id", read(t, store, tenantByName("")).ID, nameless.ID)
		update(t, store, func(tx broker.Tx) error { return tx.UpdateTenant(broker.Tenant{ID: nameless.ID, Name: "x"}) })
		lost(t, store, tenantByName(""))
	})
}
