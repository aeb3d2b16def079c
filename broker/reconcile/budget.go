package reconcile

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// spendBudget starts Terraform runs: adoptions always, since those runs exist;
// then one at a time whatever matters most, within the runs of the broker, of
// the pool, and the tokens of its account:
//
//  1. destroys in pools that are at their maximum and short of stock: nothing
//     can be made there before something has gone. Pools that somebody waits for
//     come first. And where no destroy is in flight at all, one that has waited
//     for long.
//  2. creates for requests that wait.
//  3. creates for stock, the emptiest pool first, and all other destroys. While
//     both wait, neither gets more than half of the runs in flight, nor of those
//     of a pool.
//  4. creates that replace stale nodes.
//
// The first two can't hold up the others for ever: a destroy is urgent for a few
// tries only, and creates that fail make their pool rest.
func (p *planner) spendBudget() {
	free := p.Runs
	for _, entry := range p.order {
		p.creating += entry.creating
		p.destroying += entry.destroying
		for _, n := range entry.adopt {
			p.do(Action{Kind: ApplyNode, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: "its run is to be watched"})
		}
		for _, n := range entry.revoke {
			p.do(Action{Kind: RevokeNode, Pool: n.Pool, NodeID: n.ID, State: n.State})
		}
		p.claim(entry)
	}
	free -= p.creating + p.destroying
	for free > 0 && p.startOne() {
		free--
	}
}

// Turn tells when a pool last had a create and a destroy started: both count up
// together, over all pools, so that the larger one was later. 0 is never.
type Turn struct{ Create, Destroy int }

// turns are the last ones of all pools, by name. They live in memory only.
type turns struct {
	last   int
	byPool map[string]Turn
}

// note takes down that a run was started.
func (t *turns) note(pool string, kind Kind) {
	t.last++
	turn := t.byPool[pool]
	if kind == DestroyNode {
		turn.Destroy = t.last
	} else {
		turn.Create = t.last
	}
	t.byPool[pool] = turn
}

// claims are the runs that a pool wants, by what they are for.
type claims struct {
	urgent   []*broker.Node // destroys that make room for stock that is missing
	destroys []*broker.Node // all others that are due, those first that have waited longest
	demand   int            // creates for requests that wait
	restock  int            // creates for the fill level
	rollout  int            // creates that replace stale nodes
	made     int            // nodes that are in stock or on their way there
	turn     Turn
}

// claim works out what a pool wants.
func (p *planner) claim(entry *pool) {
	entry.turn = p.Turns[entry.Name]
	p.turn.Create, p.turn.Destroy = max(p.turn.Create, entry.turn.Create), max(p.turn.Destroy, entry.turn.Destroy)
	entry.made = entry.ready + entry.provisioning - len(entry.apply)
	wanted := p.wanted(entry)
	// What is missing comes before what replaces.
	entry.rollout = max(0, min(wanted, entry.surge, entry.FillLevel+entry.surge-entry.ready-entry.provisioning))
	wanted -= entry.rollout
	entry.demand = max(0, min(wanted, p.Unmet[entry.Name]-entry.made))
	entry.restock = wanted - entry.demand
	wanted += entry.rollout
	slices.SortStableFunc(entry.destroy, func(a, b *broker.Node) int { return waitsSince(a).Compare(waitsSince(b)) })
	urgent := p.urgent(entry)
	for _, n := range entry.destroy {
		switch {
		case p.waits(n.RetryAt):
		case urgent > 0 && n.Attempts < urgentTries:
			urgent--
			entry.urgent = append(entry.urgent, n)
		default:
			entry.destroys = append(entry.destroys, n)
		}
	}
	if len(entry.urgent)+len(entry.destroys)+wanted > 0 {
		p.claimants = append(p.claimants, entry)
	}
}

// urgentTries is how often a destroy may be urgent. One that fails again and
// again makes no room soon, and must not hold up everything else.
const urgentTries = 3

// overdueAfter is how long a destroy may be put off for requests that wait. They
// may never end, and what is not destroyed costs money.
const overdueAfter = 10 * time.Minute

// overdue tells whether a pool has a destroy that has been put off for too long,
// while none is in flight anywhere: one at a time, so that a backlog does not eat
// the pools.
func (p *planner) overdue(e *pool) bool {
	return p.destroying == 0 && p.canDestroy(e, e.destroys) && p.now.Sub(waitsSince(e.destroys[0])) >= overdueAfter
}

// urgent counts the nodes that must go before the stock that is missing can be
// made. A pool that rests makes none now.
func (p *planner) urgent(entry *pool) int {
	missing := entry.FillLevel - entry.ready - entry.provisioning
	if !entry.known || missing <= 0 || p.health(entry).Failures >= breakerThreshold || !entry.Cools(p.health(entry), p.now).IsZero() {
		return 0
	}
	room := entry.MaxNodes - entry.total
	return missing - room - entry.destroying
}

// waitsSince says since when a destroy could have been started.
func waitsSince(n *broker.Node) time.Time {
	if n.RetryAt.After(n.Since) {
		return n.RetryAt
	}
	return n.Since
}

// startOne starts the run that matters most, and tells whether there was one.
func (p *planner) startOne() bool {
	urgent := best(p.claimants,
		func(e *pool) bool { return p.canDestroy(e, e.urgent) },
		func(a, b *pool) int {
			return cmp.Or(boolCompare(p.Unmet[a.Name] == 0, p.Unmet[b.Name] == 0), emptier(a, b))
		})
	if urgent != nil {
		p.startDestroy(urgent, &urgent.urgent, "makes room for a node that is missing")
		return true
	}
	overdue := best(p.claimants, p.overdue, func(a, b *pool) int {
		return waitsSince(a.destroys[0]).Compare(waitsSince(b.destroys[0]))
	})
	if overdue != nil {
		p.startDestroy(overdue, &overdue.destroys, "has waited for long")
		return true
	}
	demand := best(p.claimants,
		func(e *pool) bool { return e.demand > 0 && p.canCreate(e) },
		func(a, b *pool) int {
			return cmp.Or(compareParts(a.made, p.Unmet[a.Name], b.made, p.Unmet[b.Name]), cmp.Compare(a.turn.Create, b.turn.Create))
		})
	if demand != nil {
		demand.demand--
		p.startCreate(demand, "a request waits for it")
		return true
	}
	destroy := best(p.claimants, p.mayDestroy, func(a, b *pool) int {
		return cmp.Or(cmp.Compare(a.destroying, b.destroying), cmp.Compare(a.turn.Destroy, b.turn.Destroy))
	})
	restock := best(p.claimants, p.mayRestock, emptier)
	switch {
	case destroy != nil && (restock == nil || p.destroyFirst()):
		p.startDestroy(destroy, &destroy.destroys, "")
		return true
	case restock != nil:
		restock.restock--
		p.startCreate(restock, "")
		return true
	}
	rollout := best(p.claimants,
		func(e *pool) bool { return e.rollout > 0 && p.canCreate(e) },
		func(a, b *pool) int { return cmp.Compare(a.turn.Create, b.turn.Create) })
	if rollout != nil {
		rollout.rollout--
		p.startCreate(rollout, rollout.replaces())
	}
	return rollout != nil
}

// best gives the first of the pools that can, in this order and in that of the
// file; nil if none can.
func best(pools []*pool, can func(*pool) bool, order func(a, b *pool) int) (found *pool) {
	for _, e := range pools {
		if can(e) && (found == nil || order(e, found) < 0) {
			found = e
		}
	}
	return found
}

// emptier puts the pool first whose stock is the smaller part of its fill level,
// and of those that are even the one whose last turn is longer ago.
func emptier(a, b *pool) int {
	return cmp.Or(compareParts(a.made, a.FillLevel, b.made, b.FillLevel), cmp.Compare(a.turn.Create, b.turn.Create))
}

// compareParts compares a of wantA with b of wantB, without fractions.
func compareParts(a, wantA, b, wantB int) int {
	return cmp.Compare(a*max(1, wantB), b*max(1, wantA))
}

// destroyFirst chooses between a destroy and a create for stock: the side with
// fewer runs in flight is first, and where they are even, they take turns.
func (p *planner) destroyFirst() bool {
	if p.destroying == p.creating {
		return p.turn.Destroy <= p.turn.Create
	}
	return p.destroying < p.creating
}

func (p *planner) canCreate(e *pool) bool {
	return e.creating+e.destroying < e.Concurrency && p.hasHost(e) && p.hasToken(e.Account, CreateNode)
}

func (p *planner) canDestroy(e *pool, nodes []*broker.Node) bool {
	return len(nodes) > 0 && e.creating+e.destroying < e.Concurrency && p.hasToken(e.accountOf(nodes[0]), DestroyNode)
}

// mayRestock tells whether a create for stock may start that leaves the destroys
// of its pool their half.
func (p *planner) mayRestock(e *pool) bool {
	if e.restock == 0 || !p.canCreate(e) {
		return false
	}
	return !p.canDestroy(e, e.destroys) || e.creating < (e.Concurrency+1)/2
}

// mayDestroy tells whether a destroy may start that leaves the creates of its
// pool their half. An odd run is for a destroy only if it is its turn, so that a
// backlog does not stop a pool with one run at a time.
func (p *planner) mayDestroy(e *pool) bool {
	if !p.canDestroy(e, e.destroys) {
		return false
	}
	if e.restock == 0 || !p.canCreate(e) || e.destroying < e.Concurrency/2 {
		return true
	}
	return e.destroying < (e.Concurrency+1)/2 && e.turn.Destroy <= e.turn.Create
}

// accountOf gives the account that a destroy goes to: that of the pool, or what
// the node remembers of a pool that has left the file.
func (e *pool) accountOf(n *broker.Node) string {
	if e.known {
		return e.Account
	}
	return n.Account
}

// hasToken tells whether an account lets a run start, and notes as due when it
// will.
func (p *planner) hasToken(account string, kind Kind) bool {
	t, limited := p.Tokens[account]
	if !limited {
		return true
	}
	left, next := t.Create, t.NextCreate
	if kind == DestroyNode {
		left, next = t.Destroy, t.NextDestroy
	}
	if left > 0 {
		return true
	}
	p.waits(next)
	return false
}

func (p *planner) startDestroy(e *pool, from *[]*broker.Node, reason string) {
	n := (*from)[0]
	*from = (*from)[1:]
	e.destroying++
	p.destroying++
	p.turn.Destroy = max(p.turn.Create, p.turn.Destroy) + 1
	e.turn.Destroy = p.turn.Destroy
	account := e.accountOf(n)
	if t, limited := p.Tokens[account]; limited {
		t.Destroy--
		p.Tokens[account] = t
	}
	p.do(Action{Kind: DestroyNode, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: reason, Account: account})
}

func (p *planner) startCreate(e *pool, reason string) {
	e.made++
	e.creating++
	p.creating++
	p.turn.Create = max(p.turn.Create, p.turn.Destroy) + 1
	e.turn.Create = p.turn.Create
	if t, limited := p.Tokens[e.Account]; limited {
		t.Create--
		p.Tokens[e.Account] = t
	}
	a := Action{Kind: CreateNode, Pool: e.Name, Reason: reason, Account: e.Account}
	if len(e.apply) > 0 {
		n := e.apply[0]
		e.apply = e.apply[1:]
		a.Kind, a.NodeID, a.State = ApplyNode, n.ID, n.State
	} else {
		a.HostID = p.takeHost(e)
		if variant, why := p.variant(e); variant != "" {
			a.Variant, a.Reason = variant, strings.TrimPrefix(reason+"; "+why, "; ")
		}
	}
	p.do(a)
}
