package storetest

import (
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *suite) testPersistence(t *testing.T) {
	if s.reopen == nil {
		t.Log("this store does not claim to be persistent")
		return
	}
	t.Run("reopen", func(t *testing.T) {
		store := s.open(t)
		var (
			n        broker.Node
			session  broker.Session
			tenant   broker.Tenant
			health   broker.PoolHealth
			rollout  broker.Rollout
			followed broker.Followed
			event    broker.Event
			idem     broker.Idempotency
			h        broker.Host
		)
		for _, p := range []any{&n, &session, &tenant, &health, &rollout, &followed, &event, &idem, &h} {
			fill(p)
		}
		identity := broker.Identity{ID: broker.NewUUID(), CreatedAt: start()}
		update(t, store, func(tx broker.Tx) error {
			for _, write := range []func() error{
				func() error { return tx.SetIdentity(identity) },
				func() error { return tx.CreateNode(&n) },
				func() error { return tx.SetNodeTerraform(n.UID, []byte("sealed")) },
				func() error { return tx.CreateSession(&session) },
				func() error { return tx.CreateTenant(&tenant) },
				func() error { return tx.SetPoolHealth(health) },
				func() error { return tx.SetRollout(rollout) },
				func() error { return tx.SetFollowed(followed) },
				func() error { return tx.AppendEvent(&event) },
				func() error { return tx.SetIdempotency(idem) },
				func() error { return tx.AddHandouts(1, "a", 2) },
				func() error { return tx.CreateHost(&h) },
			} {
				if err := write(); err != nil {
					return err
				}
			}
			return nil
		})
		store = s.restart(t, store)
		defer finish(t, store)
		same(t, "identity", read(t, store, broker.ReadTx.Identity), identity)
		same(t, "nodes", read(t, store, nodes(broker.NodeQuery{Pool: n.Pool})), []broker.Node{n})
		same(t, "Terraform state", string(read(t, store, func(tx broker.ReadTx) ([]byte, error) { return tx.NodeTerraform(n.UID) })), "sealed")
		same(t, "session", read(t, store, sessionByID(session.ID)), session)
		same(t, "tenant", read(t, store, tenantByName(tenant.Name)), tenant)
		same(t, "health", read(t, store, broker.ReadTx.PoolHealths), []broker.PoolHealth{health})
		same(t, "rollouts", read(t, store, broker.ReadTx.Rollouts), []broker.Rollout{rollout})
		same(t, "followed", read(t, store, func(tx broker.ReadTx) (broker.Followed, error) { return tx.Followed(followed.Pool) }), followed)
		same(t, "events", read(t, store, events(0, 10)), []broker.Event{event})
		same(t, "idempotency", read(t, store, idempotency(idem.TenantID, idem.Key)), idem)
		same(t, "hand-outs", read(t, store, broker.ReadTx.Handouts), []broker.Handouts{{TenantID: 1, Pool: "a", Nodes: 2}})
		same(t, "host", read(t, store, hostByID(h.ID)), h)
	})
	t.Run("ids don't come again", func(t *testing.T) {
		store := s.open(t)
		n := createNodes(t, store, "a", broker.NodeGone)[0]
		e := appendEvents(t, store, start(), start())[1]
		update(t, store, func(tx broker.Tx) error { return tx.DeleteNode(n.ID) })
		prune(t, store, start().AddDate(1, 0, 0))
		store = s.restart(t, store)
		defer finish(t, store)
		if got := createNodes(t, store, "a", broker.NodeReady)[0].ID; got <= n.ID {
			t.Errorf("got node id %d after id %d was forgotten", got, n.ID)
		}
		if got := appendEvents(t, store, start())[0].Seq; got != e.Seq+1 {
			t.Errorf("got sequence number %d, want %d", got, e.Seq+1)
		}
	})
}
