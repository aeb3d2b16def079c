package broker

import (
	"context"
	"slices"
	"time"
)

// Handouts counts the nodes of a pool that were ever lent to a tenant.
type Handouts struct {
	TenantID int64  `json:"tenant_id"`
	Pool     string `json:"pool"`
	Nodes    int64  `json:"nodes"`
}

// handOut makes a session active and counts its nodes, in tx.
func handOut(tx Tx, s *Session, now time.Time) error {
	if err := MoveSession(tx, s, SessionActive, now, ""); err != nil {
		return err
	}
	byPool := make(map[string]int)
	for _, lent := range s.Nodes {
		byPool[lent.Pool]++
	}
	for pool, nodes := range byPool {
		if err := tx.AddHandouts(s.TenantID, pool, nodes); err != nil {
			return err
		}
	}
	return nil
}

// Stats gives how many nodes were ever lent: to actor, or to all for an admin,
// ordered by tenant, then by pool.
func (b *Broker) Stats(ctx context.Context, actor Tenant) (list []Handouts, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		list, err = tx.Handouts()
		return err
	})
	return slices.DeleteFunc(list, func(h Handouts) bool { return h.TenantID != actor.ID && !actor.IsAdmin }), err
}
