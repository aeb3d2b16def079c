package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// readHosts reads the hosts of the inventories that pools draw from, but for those
// that are retired and free.
func (w *World) readHosts(tx broker.ReadTx) error {
	w.Hosts = nil
	read := make(map[string]bool)
	for _, p := range w.Pools {
		name := p.Inventory.Name
		if !p.Inventory.Draws() || read[name] {
			continue
		}
		read[name] = true
		hosts, err := tx.Hosts(broker.HostQuery{Inventory: name, States: broker.UsefulHostStates()})
		if err != nil {
			return err
		}
		w.Hosts = append(w.Hosts, hosts...)
	}
	return nil
}

// indexHosts makes the hosts known before the nodes are sorted.
func (p *planner) indexHosts() {
	p.hosts = make(map[int64]*broker.Host, len(p.Hosts))
	for i := range p.Hosts {
		p.hosts[p.Hosts[i].ID] = &p.Hosts[i]
	}
}

// mendHosts finds hosts whose node does not say that it runs on them. Both change
// together, so this finds nothing unless the store was tampered with, or restored
// from two backups; but a host that nobody looks at is lost for ever.
func (p *planner) mendHosts() {
	if len(p.Hosts) == 0 {
		return
	}
	owner := make(map[int64]int64) // of each host: the first node that says it
	right := make(map[int64]bool)
	for i := range p.Nodes {
		n := &p.Nodes[i]
		if n.Host == nil || n.State == broker.NodeGone {
			continue
		}
		if owner[n.Host.ID] == 0 {
			owner[n.Host.ID] = n.ID
		}
		if h := p.hosts[n.Host.ID]; h != nil && h.NodeID == n.ID {
			right[h.ID] = true
		}
	}
	for i := range p.Hosts {
		h := &p.Hosts[i]
		if right[h.ID] || owner[h.ID] == h.NodeID {
			continue
		}
		p.do(Action{Kind: MendHost, HostID: h.ID, NodeID: owner[h.ID], Reason: "no node of that id runs on it"})
		p.taken[h.ID] = true
	}
}

// spreadHosts tells each pool that draws from an inventory which hosts it may use:
// they bound what it keeps and makes, as its maximum does. Other pools may be
// faster: see nextHost.
func (p *planner) spreadHosts() {
	p.taken = make(map[int64]bool)
	p.mendHosts()
	for _, entry := range p.order {
		if !entry.known || !entry.Inventory.Draws() {
			continue
		}
		for i := range p.Hosts {
			h := &p.Hosts[i]
			if p.taken[h.ID] || !entry.Inventory.Selects(*h) {
				continue
			}
			switch h.State() {
			case broker.HostQuarantined:
				if p.waits(h.RetryAt) {
					continue
				}
			case broker.HostFree:
			case broker.HostOccupied, broker.HostBroken, broker.HostRetired:
				continue
			}
			entry.free = append(entry.free, h)
		}
		slices.SortStableFunc(entry.free, func(a, b *broker.Host) int {
			return cmp.Or(
				boolCompare(slices.Contains(a.FailedPools, entry.Name), slices.Contains(b.FailedPools, entry.Name)),
				cmp.Compare(a.Failures, b.Failures), cmp.Compare(a.Uses, b.Uses), a.LastUsed.Compare(b.LastUsed), cmp.Compare(a.ID, b.ID))
		})
		entry.MaxNodes = min(entry.MaxNodes, entry.total+len(entry.free))
		entry.FillLevel = min(entry.FillLevel, entry.MaxNodes)
	}
}

// nextHost gives the host for the next node of a pool, or nil: those that never
// failed come first, and of these the one that was used least.
func (p *planner) nextHost(e *pool) *broker.Host {
	for len(e.free) > 0 && p.taken[e.free[0].ID] {
		e.free = e.free[1:]
	}
	if len(e.free) == 0 {
		return nil
	}
	return e.free[0]
}

// takeHost gives the id of the host for a node that is about to be made, 0 if it
// needs none.
func (p *planner) takeHost(e *pool) int64 {
	if !e.Inventory.Draws() {
		return 0
	}
	h := p.nextHost(e)
	p.taken[h.ID] = true
	return h.ID
}

// hasHost tells whether the pool has what the next node that it makes runs on.
func (p *planner) hasHost(e *pool) bool {
	return !e.Inventory.Draws() || len(e.apply) > 0 || p.nextHost(e) != nil
}

// misplaced tells whether a node runs on no host of those that its pool draws from.
func (entry *pool) misplaced(n *broker.Node) bool {
	if n.Host == nil {
		return entry.Inventory.Draws()
	}
	return entry.Misplaced(*n, entry.hosts[n.Host.ID])
}

// blameHost notes a create that has failed against its host.
func (l *Loop) blameHost(tx broker.Tx, n broker.Node, at time.Time) error {
	if n.Touched { // it was made, and lent, before
		return nil
	}
	return broker.BlameHost(tx, n, l.cfg.Pools.All(), at)
}
