package reconcile

import (
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker"
)

// staleIn counts the nodes of a pool that its rollout is to replace: in stock, or
// on their way there.
func (entry *pool) staleIn() (stock, coming int) {
	for _, n := range entry.stock {
		if entry.stale(n) {
			stock++
		}
	}
	return stock, entry.comingStale
}

func (entry *pool) stale(n *broker.Node) bool {
	return !entry.Current(*n) || entry.misplaced(n)
}

// rollouts begins, pauses and ends the rollouts of all pools. What it says counts
// in the same pass.
func (p *planner) rollouts() {
	for _, entry := range p.order {
		if !entry.known {
			continue
		}
		r := p.Rollouts[entry.Name]
		stock, coming := entry.staleIn()
		current := r.Generation == entry.Generation() && r.State != "" && r.State != broker.RolloutDone
		switch {
		case stock+coming > 0 && !current:
			r = broker.Rollout{Pool: entry.Name, Generation: entry.Generation(), State: broker.RolloutRunning, Stale: stock + coming}
			reason := fmt.Sprintf("%d nodes are stale", r.Stale)
			if r.Stale == 1 {
				reason = "1 node is stale"
			}
			p.do(Action{Kind: StartRollout, Pool: entry.Name, Stale: r.Stale, Reason: reason})
		case stock+coming == 0 && current:
			r.State = broker.RolloutDone
			p.do(Action{Kind: FinishRollout, Pool: entry.Name, Reason: "no stale node is in stock any more"})
		}
		if h := p.health(entry); r.State == broker.RolloutRunning && r.Generation == entry.Generation() && entry.pausesAt(h) {
			r.State = broker.RolloutPaused
			p.do(Action{Kind: PauseRollout, Pool: entry.Name, Reason: h.Message})
		}
		entry.rolling = r.State == broker.RolloutRunning && stock > 0
		entry.hurried = r.Now
	}
}

// pausesAt tells whether so many failures make a rollout wait for an admin. Those
// that are certain to come again do at once.
func (entry *pool) pausesAt(h broker.PoolHealth) bool {
	limit := entry.Rollout.PauseAfter
	return limit > 0 && h.Failures > 0 && (h.Failures >= limit || h.Class.Certain())
}

// crowdedOut tells whether stale nodes, which may not be lent, leave no room for
// any that may. One of them goes, whatever the rollout says.
func (p *planner) crowdedOut(entry *pool) bool {
	stale, _ := entry.staleIn()
	return entry.known && entry.Rollout.NoStale && stale > 0 && entry.total >= entry.MaxNodes &&
		entry.ready < entry.FillLevel && entry.provisioning == 0 && entry.leaving == 0
}

// replace decides what a pool whose stock is not above its fill level does for
// its rollout: how many nodes it makes beyond the fill level, and how many stale
// ones it gives up before others are there.
func (p *planner) replace(entry *pool) (reason string, count int) {
	stale, _ := entry.staleIn()
	settings := entry.Rollout
	if settings.MaxSurge == 0 && settings.MaxUnavailable == 0 {
		settings.MaxSurge = 1 // it would stand still
	}
	h := p.health(entry)
	switch {
	case settings.NoStale && (h.Failures == 0 || entry.ready >= entry.FillLevel):
		// They can't be lent, and take room. They would be wanted again only if what
		// replaces them is taken back.
		return "stale, and not lent any more", stale
	case h.Failures > 0:
		// Stock is not risked for a generation that may be broken: only nodes beyond
		// the fill level are tried.
	default:
		if early := entry.ready + settings.MaxUnavailable - entry.FillLevel; early > 0 {
			count = min(stale, early)
			stale -= count
		}
	}
	// What is missing is made first.
	if entry.ready-count+entry.provisioning >= entry.FillLevel-settings.MaxUnavailable {
		entry.surge = min(stale, settings.MaxSurge)
	}
	if entry.hurried {
		entry.surge = stale
	}
	// A pool at its maximum has no room for another one first.
	full := entry.total >= entry.MaxNodes && entry.ready == entry.FillLevel && entry.provisioning == 0
	if full && count == 0 && stale > 0 {
		entry.surge = 0
		if h.Failures == 0 || !p.waits(h.LastFailure.Add(breakerPauseMax)) {
			count = 1
		}
	}
	return "stale: made from an older generation", count
}
