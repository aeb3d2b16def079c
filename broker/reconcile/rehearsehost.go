package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// copyHosts makes the world's hosts those that a loop would read, in its order, and
// lets pools of unknown inventories need none.
func (r *rehearsal) copyHosts() {
	w := &r.world
	all := slices.Clone(w.Hosts)
	slices.SortFunc(all, func(a, b broker.Host) int { return cmp.Compare(a.ID, b.ID) })
	for _, h := range all {
		r.nextID = max(r.nextID, h.ID)
	}
	w.Pools, w.Hosts = slices.Clone(w.Pools), nil
	read := make(map[string]bool)
	for i := range w.Pools {
		p := &w.Pools[i]
		if slices.Contains(r.script.Unknown, p.Inventory.Name) {
			p.Inventory = broker.HostSelector{}
		}
		if name := p.Inventory.Name; p.Inventory.Draws() && !read[name] {
			read[name] = true
			for _, h := range all {
				if h.Inventory == name && h.State() != broker.HostRetired {
					w.Hosts = append(w.Hosts, h)
				}
			}
		}
	}
	r.hosts = make(map[int64]int, len(w.Hosts))
	for i, h := range w.Hosts {
		r.hosts[h.ID] = i
	}
}

// host gives a host of the world, nil if there is none.
func (r *rehearsal) host(id int64) *broker.Host {
	if i, known := r.hosts[id]; known {
		return &r.world.Hosts[i]
	}
	return nil
}

// nodeHost gives what a node knows of its host, nil without one.
func (r *rehearsal) nodeHost(id int64) *broker.NodeHost {
	if h := r.host(id); h != nil {
		return &broker.NodeHost{ID: h.ID, Inventory: h.Inventory, Name: h.Name}
	}
	return nil
}

// giveHost makes a node the one that
// runs on a host; 0 for none.
func (r *rehearsal) giveHost(id, node int64) {
	h := r.host(id)
	if h == nil {
		return
	}
	h.NodeID, h.LastUsed = node, r.now
}

// leaveHost gives back the host of a node that is gone.
func (r *rehearsal) leaveHost(n broker.Node) {
	if n.Host == nil {
		return
	}
	if h := r.host(n.Host.ID); h != nil && h.NodeID == n.ID {
		h.NodeID, h.LastUsed = 0, r.now
	}
}

// trustHost is [broker.TrustHost].
func (r *rehearsal) trustHost(n broker.Node) {
	if n.Host == nil {
		return
	}
	if h := r.host(n.Host.ID); h != nil && h.NodeID == n.ID {
		h.Failures, h.FailedPools, h.RetryAt, h.BrokenAt = 0, nil, time.Time{}, time.Time{}
	}
}
