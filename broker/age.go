package broker

import (
	"hash/fnv"
	"time"
)

// A node's age counts from when the broker began to make it: of all the moments
// that could be meant it is the first, so nothing older than the limit is ever
// lent, and it stays when a node returns to stock.

// Expiry gives when a node is too old to be lent; zero for never.
func (p Pool) Expiry(n Node) time.Time {
	if p.MaxAge <= 0 {
		return time.Time{}
	}
	return n.CreatedAt.Add(p.MaxAge)
}

// Expired tells whether a node is too old to be lent.
func (p Pool) Expired(n Node, now time.Time) bool {
	return p.MaxAge > 0 && !now.Before(p.Expiry(n))
}

// Aging gives when a node in stock is to be replaced, so that it never expires
// there; zero for never. That is at 5/8 to 7/8 of the greatest age, by the node's
// uid: nodes that were made at once are replaced one after the other.
func (p Pool) Aging(n Node) time.Time {
	if p.MaxAge <= 0 {
		return time.Time{}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.UID)) // never fails
	quarter := p.MaxAge / 4
	spread := time.Duration(float64(quarter) * float64(h.Sum32()) / (1 << 32))
	return n.CreatedAt.Add(p.MaxAge/8*5 + spread)
}
