package plan

import (
	"fmt"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// Running gives what a broker runs with as one side of a comparison.
func Running(s broker.Snapshot) Config {
	return Config{
		Pools: s.Pools, Accounts: s.Accounts, TenantDefaults: s.TenantDefaults, Modules: s.Modules, Inventories: declaredIn(s.Hosts), Settings: s.Settings,
	}
}

// World gives the world that a snapshot shows. Where the broker was running, work
// on nodes is in progress, and requests that are being served will be; else the
// next start does what it does after a crash.
func World(s broker.Snapshot, running bool) reconcile.World {
	w := reconcile.World{
		Runs: s.Runs, Health: make(map[string]broker.PoolHealth, len(s.Health)), Busy: make(map[int64]bool),
		Nodes: make([]broker.Node, 0, len(s.Nodes)), Sessions: make([]broker.Session, 0, len(s.Sessions)), Hosts: s.Hosts,
	}
	for _, h := range s.Health {
		w.Health[h.Pool] = h
	}
	w.Rollouts = make(map[string]broker.Rollout, len(s.Rollouts))
	for _, r := range s.Rollouts {
		w.Rollouts[r.Pool] = r
	}
	w.Turns = make(map[string]reconcile.Turn, len(s.Turns))
	for pool, t := range s.Turns {
		w.Turns[pool] = reconcile.Turn(t)
	}
	pools := make(map[int64]string, len(s.Nodes))
	for _, n := range s.Nodes {
		pools[n.ID] = n.Pool
		node := broker.Node{
			ID: n.ID, UID: n.UID, Pool: n.Pool, State: n.State, Since: n.Since, CreatedAt: n.CreatedAt,
			Source: broker.Source{Template: n.Template, Generation: n.Generation}, Account: n.Account,
			SessionID: n.SessionID, Touched: n.Touched, Attempts: n.Attempts, RetryAt: n.RetryAt,
		}
		if n.HostID != 0 {
			node.Host = &broker.NodeHost{ID: n.HostID, Inventory: n.Inventory}
		}
		if n.Interrupted {
			node.Interruption = &broker.Interruption{}
		}
		if n.Held {
			node.Hold = &broker.Hold{Since: n.Since, From: n.State}
		}
		if running {
			if atWork(node, s) {
				w.Busy[n.ID] = true
			}
			if node.State == broker.NodeReserved || node.State == broker.NodeContextualizing {
				node.State, node.Touched = broker.NodeDeployed, true
			}
		}
		w.Nodes = append(w.Nodes, node)
	}
	for _, session := range s.Sessions {
		state := session.State
		if running {
			state = broker.SessionActive
		}
		b := broker.Session{ID: session.ID, State: state, ExpiresAt: session.ExpiresAt}
		for _, id := range session.Nodes {
			b.Nodes = append(b.Nodes, broker.LentNode{ID: id, Pool: pools[id]})
		}
		w.Sessions = append(w.Sessions, b)
	}
	return w
}

// atWork tells whether a running broker works on a node.
func atWork(n broker.Node, s broker.Snapshot) bool {
	switch n.State {
	case broker.NodeApplying, broker.NodeChecking:
		return true
	case broker.NodeReleasing:
		return n.Touched
	case broker.NodeDestroying: // else it waits for its next try, or for its turn
		return n.Attempts == 0 || !n.RetryAt.IsZero() && n.RetryAt.Before(s.At)
	case broker.NodePlanned, broker.NodeReady, broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed,
		broker.NodeLost, broker.NodeFailed, broker.NodeHeld, broker.NodeGone:
	}
	return false
}

// Full gives the world of a broker whose stock is full, new, and of what the pools
// are made from, and of whom nothing is lent. The hosts are those of its
// inventories, which pools share evenly; see [Hosts] for those posted to a broker.
func Full(now time.Time, c Config, runs int) reconcile.World {
	w := reconcile.World{Runs: runs}
	w.Hosts, _, _ = broker.Declared(nil, c.Inventories, 0, now) // a file whose hosts are in conflict is refused
	given := shareHosts(now, c.Pools, w.Hosts)
	for _, p := range c.Pools {
		p, _ = schedule.Pool(p, now)
		hosts, drawn := given[p.Name]
		if drawn {
			p.FillLevel = len(hosts)
		}
		for i := range p.FillLevel {
			id := int64(len(w.Nodes) + 1)
			n := broker.Node{
				ID: id, UID: fmt.Sprintf("%016x", id), Pool: p.Name, State: broker.NodeReady, Since: now, CreatedAt: now,
				Source: p.Source, Account: p.Account,
			}
			if len(p.Variants) > 0 {
				n.Source, n.Variant = p.Variants[0].Source, p.Variants[0].Name
			}
			if drawn {
				h := &w.Hosts[hosts[i]]
				h.NodeID, h.Uses, h.LastUsed = id, 1, now
				n.Host = &broker.NodeHost{Inventory: h.Inventory, Name: h.Name}
			}
			w.Nodes = append(w.Nodes, n)
		}
	}
	of := make(map[int64]int64) // hosts by their node
	for i := range w.Hosts {
		h := &w.Hosts[i]
		h.ID += int64(len(w.Nodes))
		of[h.NodeID] = h.ID
	}
	for _, n := range w.Nodes {
		if n.Host != nil {
			n.Host.ID = of[n.ID]
		}
	}
	return w
}

// shareHosts gives each pool that draws from an inventory of the file the places of
// the hosts that its stock runs on: in turns, as many as there are.
func shareHosts(now time.Time, pools []broker.Pool, hosts []broker.Host) map[string][]int {
	given := make(map[string][]int)
	taken := make(map[int]bool)
	for more := true; more; {
		more = false
		for _, p := range pools {
			if !p.Inventory.Draws() || p.Inventory.Name == broker.APIInventory {
				continue
			}
			p, _ = schedule.Pool(p, now)
			given[p.Name] = append([]int{}, given[p.Name]...)
			if len(given[p.Name]) >= p.FillLevel {
				continue
			}
			for i, h := range hosts {
				if !taken[i] && p.Inventory.Selects(h) {
					taken[i], more = true, true
					given[p.Name] = append(given[p.Name], i)
					break
				}
			}
		}
	}
	return given
}

// Durations are those that a snapshot has observed.
func Durations(s broker.Snapshot) map[string]reconcile.Durations {
	if len(s.Observed) == 0 {
		return nil
	}
	all := make(map[string]reconcile.Durations, len(s.Observed))
	for pool, t := range s.Observed {
		all[pool] = reconcile.Durations{Create: t.Create, Check: t.Check, Destroy: t.Destroy}
	}
	return all
}
