package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// SweepWorld is what [PlanSweep] knows: all facts are arguments.
type SweepWorld struct {
	Pool    broker.Pool
	Began   time.Time // of the listing
	Listing broker.Listing
	Nodes   []broker.Node // all of the store, of every pool and in every state
	Earlier Sightings     // what the sweep before this one gave
}

// Sightings are what one sweep has seen and the next must see again before
// anything follows from it: uids, with the time when each was seen first.
type Sightings struct {
	Unknown map[string]time.Time // listed, and no live node has this uid
	Missing map[string]time.Time // not listed, though the node exists by all we know
	// Listed are live nodes that a good listing has shown before.
	Listed map[string]bool
}

// surelyListed is the age from which on a node counts as listed before, though
// this process has not seen it: no cloud's listing is behind as much.
const surelyListed = 24 * time.Hour

// SweepPlan is what follows from a listing.
type SweepPlan struct {
	// Leaks are to be adopted, and Vanished are nodes to be given up: ready and
	// lent ones. Together they have at most MaxDestroys nodes that are destroyed now;
	// Left counts those that have to wait for the next sweep.
	Leaks    []broker.ListedNode
	Vanished []broker.Node
	Left     int
	// Found are nodes whose destroy has failed, with what the listing shows of them in
	// Import: what a create that was cut short has made may be in the way of it.
	Found []broker.Node

	Sightings Sightings
	// Distrusted is why nothing at all was concluded; "" if the listing was good.
	Distrusted string
	// Malformed are uids that this broker has never given to anything, and Bare
	// those of leaks that nothing can be imported of. Both are left alone.
	Malformed, Bare []string
}

// PlanSweep compares a listing that came about with the records. It is pure.
//
// Deleting on a wrong listing is far worse than keeping a leak for a while, so
// every doubt ends in doing nothing: see the checks in distrust, and the two
// sightings at least half an interval apart that all conclusions need. What is
// younger than the pool's create timeout is in nobody's way yet: it may still be
// in the making, and slow clouds may not list it. Nor has vanished what was never
// listed: a listing may be older than it says.
func PlanSweep(now time.Time, w SweepWorld) SweepPlan {
	live, pools := make(map[string]bool), make(map[string]string)
	timeouts := make(map[string]time.Duration)
	var expected []*broker.Node
	for i := range w.Nodes {
		n := &w.Nodes[i]
		live[n.UID], pools[n.UID] = n.State != broker.NodeGone, n.Pool
		timeouts[n.UID] = n.CreateTimeout
		if w.expects(n) {
			expected = append(expected, n)
		}
	}
	listed := make(map[string]broker.ListedNode)
	for _, n := range w.Listing.Nodes {
		if earlier, ok := listed[n.UID]; ok {
			n = merge(earlier, n)
		}
		listed[n.UID] = n
	}
	if reason := w.distrust(expected, listed); reason != "" {
		return SweepPlan{Distrusted: reason, Sightings: Sightings{Listed: w.Earlier.Listed}}
	}

	plan := SweepPlan{Sightings: Sightings{Unknown: map[string]time.Time{}, Missing: map[string]time.Time{}, Listed: map[string]bool{}}}
	for uid, lives := range live {
		if lives && (exists(listed, uid) || w.Earlier.Listed[uid]) {
			plan.Sightings.Listed[uid] = true
		}
	}
	for i := range w.Nodes {
		if n := w.Nodes[i]; w.lacks(&n, listed[n.UID]) {
			n.Import = merge(broker.ListedNode{Resources: n.Import}, listed[n.UID]).Resources
			plan.Found = append(plan.Found, n)
		}
	}
	twice := func(first time.Time, earlier bool) bool {
		return earlier && now.Sub(first) >= w.Pool.Sweep.Interval/2
	}
	room := w.Pool.Sweep.MaxDestroys
	for _, uid := range slices.Sorted(maps.Keys(listed)) {
		// What is another pool's is for that pool's module to remove: its resources
		// have other addresses here, or none.
		if owner := cmp.Or(pools[uid], listed[uid].Pool, w.Pool.Name); live[uid] || owner != w.Pool.Name {
			continue
		}
		if !broker.ValidUID(uid) {
			plan.Malformed = append(plan.Malformed, uid)
			continue
		}
		first, earlier := w.Earlier.Unknown[uid]
		if !earlier {
			first = now
		}
		plan.Sightings.Unknown[uid] = first
		born := listed[uid].CreatedAt
		if born.IsZero() {
			born = first
		}
		if !twice(first, earlier) || now.Sub(born) <= max(w.Pool.CreateTimeout, timeouts[uid]) {
			continue
		}
		if len(listed[uid].Resources) == 0 {
			plan.Bare = append(plan.Bare, uid)
			continue
		}
		plan.Leaks = append(plan.Leaks, listed[uid])
	}
	// The oldest sightings first, so that none waits for ever.
	slices.SortStableFunc(plan.Leaks, func(a, b broker.ListedNode) int {
		return plan.Sightings.Unknown[a.UID].Compare(plan.Sightings.Unknown[b.UID])
	})
	if len(plan.Leaks) > room {
		plan.Left = len(plan.Leaks) - room
		plan.Leaks = plan.Leaks[:room]
	}
	room -= len(plan.Leaks)
	for _, n := range expected {
		if exists(listed, n.UID) {
			continue
		}
		first, earlier := w.Earlier.Missing[n.UID]
		if !earlier {
			first = now
		}
		plan.Sightings.Missing[n.UID] = first
		known := w.Earlier.Listed[n.UID] || now.Sub(n.CreatedAt) > surelyListed
		if !known || !twice(first, earlier) || first.Sub(n.CreatedAt) <= n.CreateTimeout {
			continue
		}
		switch {
		case n.State == broker.NodeDeployed: // destroys nothing before its session ends
			plan.Vanished = append(plan.Vanished, *n)
		case n.State != broker.NodeReady:
			// A check or a request works on it, and finds out by itself.
		case room == 0:
			plan.Left++
		default:
			room--
			plan.Vanished = append(plan.Vanished, *n)
		}
	}
	return plan
}

// expects tells whether a good listing must show the node: it was there before
// the listing began, and was made from what the listing is made with.
func (w SweepWorld) expects(n *broker.Node) bool {
	if n.Pool != w.Pool.Name || !w.Pool.Current(*n) || !n.Since.Before(w.Began) {
		return false
	}
	switch n.State {
	case broker.NodeChecking, broker.NodeReady, broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed:
		return true
	case broker.NodePlanned, broker.NodeApplying, broker.NodeLost, broker.NodeReleasing, broker.NodeFailed, broker.NodeHeld,
		broker.NodeDestroying, broker.NodeGone:
	}
	return false
}

// lacks tells whether a node can't be destroyed and the listing shows something that
// its record does not say. One sighting is enough: it has the node's own tag, and the
// node is to go.
func (w SweepWorld) lacks(n *broker.Node, listed broker.ListedNode) bool {
	if n.Pool != w.Pool.Name || !w.Pool.Current(*n) || n.State != broker.NodeDestroying || n.Attempts == 0 {
		return false
	}
	for address, id := range listed.Resources {
		if n.Import[address] != id {
			return true
		}
	}
	return false
}

// distrust gives the reason why nothing may be concluded from a listing, or "".
func (w SweepWorld) distrust(expected []*broker.Node, listed map[string]broker.ListedNode) string {
	if !w.Listing.Complete {
		return "the listing is not complete"
	}
	there := 0
	for _, n := range expected {
		if exists(listed, n.UID) {
			there++
		}
	}
	if 2*there < len(expected) {
		return fmt.Sprintf("the listing has %d of %d nodes of the pool that exist", there, len(expected))
	}
	return ""
}

// exists tells whether a listing shows the node itself.
func exists(listed map[string]broker.ListedNode, uid string) bool {
	n, ok := listed[uid]
	return ok && !n.Remains
}

// merge makes one of two entries for the same node.
func merge(a, b broker.ListedNode) broker.ListedNode {
	resources := make(map[string]string, len(a.Resources)+len(b.Resources))
	maps.Copy(resources, a.Resources)
	maps.Copy(resources, b.Resources)
	b.Resources, b.Remains = resources, a.Remains && b.Remains
	b.Pool, b.Address = cmp.Or(b.Pool, a.Pool), cmp.Or(b.Address, a.Address)
	if b.CreatedAt.IsZero() || a.CreatedAt.After(b.CreatedAt) {
		b.CreatedAt = a.CreatedAt // the younger: it may have to wait
	}
	return b
}
