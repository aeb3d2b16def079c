package reconcile

import "github.com/duffy-broker/duffy-broker/broker"

// expired tells whether a node in stock is too old to be lent. Of one that is
// not, it notes when it will be, and whether it is to be replaced before that.
// Stale nodes are not: their rollout decides.
func (p *planner) expired(entry *pool, n *broker.Node) bool {
	if !entry.known || entry.MaxAge == 0 {
		return false
	}
	if !p.waits(entry.Expiry(*n)) {
		return true
	}
	if !p.waits(entry.Aging(*n)) && !entry.stale(n) {
		if entry.aging == nil {
			entry.aging = make(map[int64]bool)
		}
		entry.aging[n.ID] = true
	}
	return false
}

// renew replaces nodes that age in a full pool, one at a time: it makes one beyond
// the fill level. Only a pool that is at its maximum gives one up first, and not
// while its creates fail. Above its maximum, after a window has closed, it would
// get none in its place.
func (p *planner) renew(entry *pool) (reason string, count int) {
	if entry.ready != entry.FillLevel || entry.provisioning > 0 || entry.total > entry.MaxNodes {
		return "", 0
	}
	if entry.total < entry.MaxNodes {
		entry.surge = 1
		return "", 0
	}
	if h := p.health(entry); h.Failures > 0 && p.waits(h.LastFailure.Add(breakerPauseMax)) {
		return "", 0
	}
	return "old: replaced before it can't be lent any more", 1
}

// replaces says what the nodes are for that a pool makes beyond its fill level.
func (entry *pool) replaces() string {
	if entry.rolling {
		return "replaces a stale node"
	}
	return "replaces an old node"
}
