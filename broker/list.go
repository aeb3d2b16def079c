package broker

import (
	"cmp"
	"context"
	"slices"
	"strconv"
)

// SessionFilter selects sessions of a list. The zero filter selects the active
// ones.
type SessionFilter struct {
	Ended  bool   // those that have ended, instead
	Tenant string // only those of this tenant, by id or name
	After  int64  // only ids above it
	Limit  int    // at most this many, the lowest ids first; 0 means all
}

// NodeFilter selects nodes and hosts of a list. The zero filter selects the live
// nodes and the free hosts.
type NodeFilter struct {
	Pool string
	// States and Hosts are the states that nodes and hosts may have. Without both,
	// nodes have any but [NodeGone], and hosts are free; with one alone there are
	// none of the other kind.
	States []NodeState
	Hosts  []HostState
	// Inventory selects the hosts of one inventory, without Hosts those that are not
	// retired, and no nodes. Only then are hosts listed that are occupied: elsewhere
	// the nodes on them stand for them.
	Inventory string
	After     int64 // only ids above it
	Limit     int   // at most this many, the lowest ids first; 0 means all
}

// FindSessions lists the sessions that actor may see, its own, or all for an
// admin, as far as the filter selects them. No tenant of that name has none.
func (b *Broker) FindSessions(ctx context.Context, actor Tenant, f SessionFilter) (list []Session, err error) {
	q := SessionQuery{States: []SessionState{SessionActive}, After: f.After, Limit: f.Limit}
	if f.Ended {
		q.States = []SessionState{SessionRetired}
	}
	if !actor.IsAdmin {
		q.TenantID = actor.ID
	}
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		list = nil
		q := q
		if f.Tenant != "" {
			t, err := tenantByText(tx, f.Tenant)
			if CodeOf(err) == CodeNotFound || err == nil && q.TenantID != 0 && t.ID != q.TenantID {
				return nil
			}
			if err != nil {
				return err
			}
			q.TenantID = t.ID
		}
		list, err = tx.Sessions(q)
		return err
	})
	return list, err
}

// tenantByText finds a tenant by id, or else by name.
func tenantByText(tx ReadTx, text string) (Tenant, error) {
	if id, err := strconv.ParseInt(text, 10, 64); err == nil {
		if t, err := tx.Tenant(id); CodeOf(err) != CodeNotFound {
			return t, err
		}
	}
	return tx.TenantByName(text)
}

// FindNodes lists the nodes that actor may see, those lent to it, or all for an
// admin, as far as the filter selects them.
func (b *Broker) FindNodes(ctx context.Context, actor Tenant, f NodeFilter) (list []Node, err error) {
	if f.Inventory != "" || len(f.States) == 0 && len(f.Hosts) > 0 {
		return nil, nil
	}
	states := f.States
	if len(states) == 0 {
		states = LiveNodeStates()
	}
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		if actor.IsAdmin {
			list, err = tx.Nodes(NodeQuery{Pool: f.Pool, States: states, After: f.After, Limit: f.Limit})
			return err
		}
		list, err = lentNodes(tx, actor.ID)
		return err
	})
	if actor.IsAdmin || err != nil {
		return list, err
	}
	list = slices.DeleteFunc(list, func(n Node) bool {
		return n.ID <= f.After || f.Pool != "" && n.Pool != f.Pool || !slices.Contains(states, n.State)
	})
	slices.SortFunc(list, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	if f.Limit > 0 {
		list = list[:min(f.Limit, len(list))]
	}
	return list, nil
}

// lentNodes gives the nodes of a tenant's active sessions.
func lentNodes(tx ReadTx, tenantID int64) (list []Node, err error) {
	sessions, err := tx.Sessions(SessionQuery{TenantID: tenantID, States: []SessionState{SessionActive}})
	if err != nil {
		return nil, err
	}
	for _, s := range sessions {
		for _, lent := range s.Nodes {
			n, err := tx.Node(lent.ID)
			if CodeOf(err) == CodeNotFound {
				continue
			}
			if err != nil {
				return nil, err
			}
			list = append(list, n)
		}
	}
	return list, nil
}
