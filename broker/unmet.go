package broker

import (
	"math"
	"sync"
	"time"
)

// unmetFor is how long a request that was refused for lack of nodes counts as
// waiting: clients try again, and most of them sooner.
const unmetFor = time.Minute

// unmet remembers the requests that were refused for lack of nodes, by tenant
// and pool: a client that tries again is not counted twice. The zero value is
// empty. It is in memory only: who still waits after a restart asks again.
type unmet struct {
	mu      sync.Mutex
	refused map[unmetKey]refusal
}

type unmetKey struct {
	tenant int64
	pool   string
}

type refusal struct {
	nodes int
	at    time.Time
}

// refuse notes a request that got nothing. What it asks of pools that do have
// enough counts too: they are to keep it.
func (u *unmet) refuse(tenant int64, specs []NodesSpec, now time.Time) {
	u.change(tenant, specs, func(key unmetKey, nodes int) { u.refused[key] = refusal{nodes: nodes, at: now} })
}

// serve notes that a tenant got what it asked for.
func (u *unmet) serve(tenant int64, specs []NodesSpec) {
	u.change(tenant, specs, func(key unmetKey, _ int) { delete(u.refused, key) })
}

func (u *unmet) change(tenant int64, specs []NodesSpec, change func(key unmetKey, nodes int)) {
	byPool := make(map[string]int, len(specs))
	for _, spec := range specs {
		// Beyond any pool, and far from overflow.
		byPool[spec.Pool] = min(byPool[spec.Pool]+min(spec.Quantity, math.MaxInt32), math.MaxInt32)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.refused == nil {
		u.refused = make(map[unmetKey]refusal)
	}
	for pool, nodes := range byPool {
		change(unmetKey{tenant, pool}, nodes)
	}
}

// nodes counts what is waited for, by pool, and forgets what is over.
func (u *unmet) nodes(now time.Time) map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	waiting := make(map[string]int)
	for key, r := range u.refused {
		if now.Sub(r.at) >= unmetFor {
			delete(u.refused, key)
			continue
		}
		waiting[key.pool] += r.nodes
	}
	return waiting
}

// Unmet gives the nodes, by pool, that requests were refused within the last
// minute and that their tenants did not get since. Several requests of one
// tenant to one pool count as the last of them.
func (b *Broker) Unmet(now time.Time) map[string]int { return b.unmet.nodes(now) }

// noteDemand notes how a request came out, as far as stock is concerned. Pools
// that do not exist are left out, so that what is kept is bounded.
func (b *Broker) noteDemand(actor Tenant, req SessionRequest, err error) {
	tenant := actor.ID
	if req.TenantID != nil {
		tenant = *req.TenantID
	}
	if err == nil {
		b.unmet.serve(tenant, req.Specs)
		return
	}
	if CodeOf(err) != CodeCapacity {
		return
	}
	for _, spec := range req.Specs {
		if _, known := b.cfg.Pools.Get(spec.Pool); !known {
			return // it can never be served, so nothing waits for it
		}
	}
	b.unmet.refuse(tenant, req.Specs, b.cfg.Now())
}
