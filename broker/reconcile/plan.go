// Package reconcile keeps the world as pools.hcl says: [Plan] decides, purely,
// and a [Loop] carries it out.
package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// Kind says what an [Action] does.
type Kind string

// The kinds of actions.
const (
	ExpireSession  Kind = "expire_session"  // end a session whose time is over
	AbandonSession Kind = "abandon_session" // end a session that a crash left unacknowledged
	ReleaseNode    Kind = "release_node"    // take a node out of use; it will be destroyed
	ReturnNode     Kind = "return_node"     // check a node that was reserved for nobody, back to stock
	RevokeNode     Kind = "revoke_node"     // take the tenant's key off a node given back
	DestroyNode    Kind = "destroy_node"    // run Terraform until nothing is left
	CreateNode     Kind = "create_node"     // record a new node of a pool and apply it
	ApplyNode      Kind = "apply_node"      // run Terraform, or adopt the run of another process
	CheckNode      Kind = "check_node"      // run the ready check
	HoldNode       Kind = "hold_node"       // leave a node to a person, once nothing runs on it
	ForgetNode     Kind = "forget_node"     // remove the old record of a node that is gone
	StartRollout   Kind = "start_rollout"   // note that stale stock is being replaced
	PauseRollout   Kind = "pause_rollout"   // note that this waits for an admin
	FinishRollout  Kind = "finish_rollout"  // note that it is done
	MendHost       Kind = "mend_host"       // set right which node runs on a host of an inventory
)

// Action is one thing to do. The state that a node or session must still be in
// when it is done travels along, and is compared then.
type Action struct {
	Kind      Kind                `json:"kind"`
	Pool      string              `json:"pool,omitempty"`
	NodeID    int64               `json:"node_id,omitempty"`
	State     broker.NodeState    `json:"state,omitempty"`
	SessionID int64               `json:"session_id,omitempty"`
	Session   broker.SessionState `json:"session_state,omitempty"`
	Reason    string              `json:"reason,omitempty"`
	// Account is the one whose token the run takes that this starts; "" for none.
	Account string `json:"account,omitempty"`
	// Variant is what a new node is made from; "" where its pool has none.
	Variant string `json:"variant,omitempty"`
	// Stale is how many nodes a rollout that starts has to replace.
	Stale int `json:"stale,omitempty"`
	// HostID is the host of an inventory that a new node gets, or that is mended.
	HostID int64 `json:"host_id,omitempty"`
}

// World is what the planner knows: all facts are arguments.
type World struct {
	Pools    []broker.Pool
	Nodes    []broker.Node    // every live one; those gone may be left out
	Sessions []broker.Session // preparing and active ones
	Health   map[string]broker.PoolHealth
	Rollouts map[string]broker.Rollout // by pool
	// Hosts are those of the inventories that pools draw from, also those in use.
	Hosts []broker.Host
	// Busy are the nodes that this process is working on.
	Busy map[int64]bool
	// Serving are the requests in progress in this process, by Session.Request.
	Serving map[string]bool
	// Runs is how many Terraform runs may be in flight at once, in all pools.
	Runs int
	// Tokens are the runs that may start now, by account. One that is not in it
	// has no limit.
	Tokens map[string]Tokens
	// Unmet are the nodes that requests wait for, by pool.
	Unmet map[string]int
	// Turns tell which pool was served when, so that pools with equal claims take
	// turns.
	Turns map[string]Turn
}

const (
	// KeepGone is how long the record of a node that is gone stays readable.
	KeepGone = 24 * time.Hour
	// breakerThreshold is how many creates may fail in a row before a pool is
	// tried with one node at a time and growing pauses.
	breakerThreshold = 3
	breakerPause     = 10 * time.Second
	// breakerPauseMax bounds the price of a broken pool to six attempts an hour
	// in the long run.
	breakerPauseMax = 10 * time.Minute
	// orphanConcurrency is how many destroys run at once in a pool that has left
	// the file, and with it its own limit.
	orphanConcurrency = 4
)

// Plan says what is to be done now, in this order, and when something will be
// due next though nothing changes (zero: never). It is pure. Planning again after
// the actions were done, or are being done, gives nothing.
func Plan(now time.Time, w World) (actions []Action, due time.Time) {
	p := plan(now, w)
	return p.actions, p.due
}

func plan(now time.Time, w World) *planner {
	w.Tokens = maps.Clone(w.Tokens) // it is counted down
	p := &planner{now: now, World: w, pools: make(map[string]*pool), sessions: make(map[int64]*broker.Session)}
	p.indexHosts()
	p.sort()
	p.spreadHosts()
	p.endSessions()
	p.repairLinks()
	p.hold()
	p.rollouts()
	p.release()
	p.spendBudget()
	p.check()
	p.forget()
	return p
}

type planner struct {
	now time.Time
	World
	pools    map[string]*pool
	order    []*pool
	sessions map[int64]*broker.Session
	lent     map[int64]map[int64]bool // nodes of large sessions: see holds
	actions  []Action
	due      time.Time

	claimants            []*pool // those that want a run
	creating, destroying int     // Terraform runs in flight
	turn                 Turn    // of any pool

	hosts map[int64]*broker.Host
	taken map[int64]bool // hosts that this plan gives away
}

// pool is what is known of a pool: its definition, if it still has one, and its
// nodes by what is to be done with them.
type pool struct {
	broker.Pool
	known bool

	total, provisioning, ready int
	creating, destroying       int // Terraform runs in flight
	surge                      int // nodes wanted above the fill level, to replace stale ones
	comingStale                int // stale nodes on their way into stock
	leaving                    int // nodes that are going, or have to
	rolling, hurried           bool
	making                     map[string]int // nodes on their way into stock, by generation; nil without variants
	stock                      []*broker.Node
	expired                    []*broker.Node // in stock, and too old to be lent
	interrupted                []*broker.Node // in stock or on their way, and about to go away by themselves
	aging                      map[int64]bool // in stock, and to be replaced before that
	apply                      []*broker.Node // planned: wants a run
	adopt                      []*broker.Node // applying, and nobody watches the run
	check                      []*broker.Node
	revoke                     []*broker.Node
	destroy                    []*broker.Node
	hold                       []*broker.Node
	gone                       []*broker.Node
	hosts                      map[int64]*broker.Host // all of the planner's
	free                       []*broker.Host         // that it may use, in its order

	claims
}

func (p *planner) do(a Action) { p.actions = append(p.actions, a) }

func (p *planner) at(t time.Time) {
	if p.due.IsZero() || t.Before(p.due) {
		p.due = t
	}
}

// waits tells whether t is still to come, and notes it as due.
func (p *planner) waits(t time.Time) bool {
	if !t.After(p.now) {
		return false
	}
	p.at(t)
	return true
}

func (p *planner) pool(name string) *pool {
	entry, ok := p.pools[name]
	if !ok {
		entry = &pool{Pool: broker.Pool{Name: name, Concurrency: orphanConcurrency}, hosts: p.hosts}
		p.pools[name] = entry
		p.order = append(p.order, entry)
	}
	return entry
}

// sort puts every node where the later steps look for it.
func (p *planner) sort() {
	for _, definition := range p.Pools {
		entry := p.pool(definition.Name)
		effective, next := schedule.Pool(definition, p.now)
		entry.Pool, entry.known = effective, true
		if !next.IsZero() {
			p.at(next)
		}
	}
	for i := range p.Sessions {
		p.sessions[p.Sessions[i].ID] = &p.Sessions[i]
	}
	var entry *pool
	for i := range p.Nodes {
		n := &p.Nodes[i]
		if entry == nil || entry.Name != n.Pool { // most have the pool of the node before
			entry = p.pool(n.Pool)
		}
		if n.State != broker.NodeGone {
			entry.total++
		}
		busy := p.Busy[n.ID]
		asked := n.Hold != nil && n.ToBeHeld() // which copies the node
		if n.Interruption != nil && !asked && entry.sortInterrupted(n, busy) {
			continue
		}
		if entry.known && !asked && comes(n.State) && entry.stale(n) {
			entry.comingStale++
		}
		if leaves(n.State) {
			entry.leaving++
		}
		if asked {
			entry.sortHeld(n, busy)
			continue
		}
		if comes(n.State) {
			entry.makes(n.Source.Generation)
		}
		switch n.State {
		case broker.NodePlanned:
			entry.provisioning++
			entry.file(&entry.apply, n, busy)
		case broker.NodeApplying:
			entry.provisioning++
			entry.creating++ // whoever watches it, or nobody: it runs, or is about to
			entry.file(&entry.adopt, n, busy)
		case broker.NodeChecking:
			entry.provisioning++
			entry.file(&entry.check, n, busy)
		case broker.NodeReady:
			if p.expired(entry, n) {
				entry.leaving++
				entry.file(&entry.expired, n, busy)
				continue
			}
			if !entry.known || entry.Lendable(*n) {
				entry.ready++
			}
			entry.file(&entry.stock, n, busy)
		case broker.NodeReleasing:
			if n.Touched {
				entry.file(&entry.revoke, n, busy)
			} else {
				entry.file(&entry.destroy, n, busy)
			}
		case broker.NodeLost: // its session may still show it
			if s := p.sessions[n.SessionID]; s == nil || !p.holds(s, n.ID) {
				entry.file(&entry.destroy, n, busy)
			}
		case broker.NodeFailed:
			entry.file(&entry.destroy, n, busy)
		case broker.NodeDestroying:
			if busy {
				entry.destroying++
			}
			entry.file(&entry.destroy, n, busy)
		case broker.NodeGone:
			entry.file(&entry.gone, n, busy)
		case broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed:
			// Their session decides: see repairLinks.
		case broker.NodeHeld:
			// A person decides.
		}
	}
}

// sortHeld is sort for a node that somebody has asked to hold. It is no stock any
// more, nor about to be. Only the key of the tenant who gave it back goes first.
func (entry *pool) sortHeld(n *broker.Node, busy bool) {
	if busy && n.State == broker.NodeDestroying {
		entry.destroying++
	}
	if n.State == broker.NodeReleasing && n.Touched {
		entry.file(&entry.revoke, n, busy)
		return
	}
	entry.file(&entry.hold, n, busy)
}

func (*pool) file(list *[]*broker.Node, n *broker.Node, busy bool) {
	if !busy {
		*list = append(*list, n)
	}
}

func (p *planner) endSessions() {
	for _, s := range p.Sessions {
		switch {
		case s.State == broker.SessionPreparing && !p.Serving[s.Request]:
			p.do(Action{Kind: AbandonSession, SessionID: s.ID, Session: s.State, Reason: "nobody serves the request any more"})
		case s.State == broker.SessionActive && !p.waits(s.ExpiresAt):
			p.do(Action{Kind: ExpireSession, SessionID: s.ID, Session: s.State, Reason: "expired"})
		}
	}
}

// repairLinks finds nodes that a session no longer holds. A session and its
// nodes change together, so this finds nothing unless the store was tampered
// with, or restored from two backups; but a node that nobody looks at costs
// money for ever.
func (p *planner) repairLinks() {
	held := []broker.NodeState{broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		if !slices.Contains(held, n.State) {
			continue
		}
		if s := p.sessions[n.SessionID]; s != nil && p.holds(s, n.ID) {
			continue
		}
		kind := ReturnNode
		if n.State == broker.NodeDeployed {
			kind = ReleaseNode
		}
		p.do(Action{Kind: kind, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: "no session holds it"})
	}
}

func (p *planner) hold() {
	for _, entry := range p.order {
		for _, n := range entry.hold {
			p.do(Action{Kind: HoldNode, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: n.Hold.Reason})
		}
	}
}

func holds(s *broker.Session, node int64) bool {
	for i := range s.Nodes {
		if s.Nodes[i].ID == node {
			return true
		}
	}
	return false
}

// manyNodes is from how many nodes on those of a session are looked up by a set:
// each of them is asked for.
const manyNodes = 64

// holds tells whether a session has a node.
func (p *planner) holds(s *broker.Session, node int64) bool {
	if len(s.Nodes) < manyNodes {
		return holds(s, node)
	}
	set := p.lent[s.ID]
	if set == nil {
		set = make(map[int64]bool, len(s.Nodes))
		for i := range s.Nodes {
			set[s.Nodes[i].ID] = true
		}
		if p.lent == nil {
			p.lent = make(map[int64]map[int64]bool)
		}
		p.lent[s.ID] = set
	}
	return set[node]
}

// release takes nodes out of stock that are not wanted: those of pools that have
// gone, those that are too old, those above the fill level, stale ones first, and
// those that a rollout gives up. By default that makes one node more than the fill level, so that stock
// never dips and a broken new generation costs none; only a pool that is at its
// maximum gives up a stale node first.
func (p *planner) release() {
	for _, entry := range p.order {
		p.releaseInterrupted(entry)
		var reason string
		var count int
		for _, n := range entry.expired {
			p.do(Action{Kind: ReleaseNode, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: "too old to be lent"})
		}
		switch {
		case !entry.known:
			reason, count = "its pool has left pools.hcl", len(entry.stock)
			for _, n := range slices.Concat(entry.check, entry.apply) {
				p.do(Action{Kind: ReleaseNode, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: reason})
			}
			entry.check, entry.apply = nil, nil
		case entry.ready > entry.FillLevel:
			reason, count = "more nodes than the fill level", entry.ready-entry.FillLevel
		case entry.rolling:
			reason, count = p.replace(entry)
		case len(entry.aging) > 0:
			reason, count = p.renew(entry)
		}
		if count == 0 && p.crowdedOut(entry) {
			reason, count = "makes room for a node that can be lent", 1
		}
		if count == 0 {
			continue
		}
		// Stale nodes first, then those that age, then the oldest.
		slices.SortStableFunc(entry.stock, func(a, b *broker.Node) int {
			return cmp.Or(boolCompare(entry.stale(b), entry.stale(a)), boolCompare(entry.aging[b.ID], entry.aging[a.ID]), cmp.Compare(a.ID, b.ID))
		})
		for _, n := range entry.stock[:min(count, len(entry.stock))] {
			if !entry.known || entry.Lendable(*n) {
				entry.ready--
			}
			p.do(Action{Kind: ReleaseNode, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: reason})
		}
	}
}

// comes tells whether a node is on its way into stock.
func comes(s broker.NodeState) bool {
	return s == broker.NodePlanned || s == broker.NodeApplying || s == broker.NodeChecking
}

// leaves tells whether a node is going, or has to.
func leaves(s broker.NodeState) bool {
	return s == broker.NodeReleasing || s == broker.NodeDestroying || s == broker.NodeFailed || s == broker.NodeLost
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// wanted counts the applies that a pool needs: nodes planned already, and new
// ones up to the fill level, within its maximum and its circuit breaker.
func (p *planner) wanted(entry *pool) int {
	if !entry.known {
		return 0
	}
	planned := len(entry.apply)
	missing := entry.FillLevel + entry.surge - entry.ready - entry.provisioning
	fresh := max(0, min(missing, entry.MaxNodes-entry.total))
	if fresh > 0 {
		fresh = min(fresh, p.room(entry))
	}
	health := p.health(entry)
	if trials(health) < breakerThreshold {
		return planned + fresh
	}
	if entry.provisioning > planned {
		return 0 // the probe is out
	}
	if p.waits(health.LastFailure.Add(BreakerPause(trials(health)))) {
		return 0
	}
	return min(1, planned+fresh)
}

// health gives the failures of what the pool is made from now: a changed module
// or variable is a new start.
func (p *planner) health(entry *pool) broker.PoolHealth {
	if h := p.Health[entry.Name]; h.Generation == entry.Generation() {
		return h
	}
	return broker.PoolHealth{}
}

// trials counts a pool's failures for its circuit breaker. One that is certain to
// happen again opens it at once.
func trials(h broker.PoolHealth) int {
	if h.Failures > 0 && h.Class.Certain() {
		return h.Failures + breakerThreshold - 1
	}
	return h.Failures
}

// BreakerPause is how long a pool rests after so many failed creates in a row
// before one more is tried: 0 below the threshold, doubling up to ten minutes.
func BreakerPause(failures int) time.Duration {
	if failures < breakerThreshold {
		return 0
	}
	return backoff(breakerPause, breakerPauseMax, failures-breakerThreshold)
}

// DestroyPause is how long after so many failed destroys the next is due.
func DestroyPause(attempts int) time.Duration {
	return backoff(5*time.Second, 10*time.Minute, attempts-1)
}

func backoff(base, limit time.Duration, doublings int) time.Duration {
	if doublings > 30 { // beyond every limit, and safe from overflow
		return limit
	}
	return min(limit, base<<max(0, doublings))
}

func (p *planner) check() {
	for _, entry := range p.order {
		for _, n := range entry.check {
			p.do(Action{Kind: CheckNode, Pool: n.Pool, NodeID: n.ID, State: n.State})
		}
	}
}

func (p *planner) forget() {
	for _, entry := range p.order {
		for _, n := range entry.gone {
			if !p.waits(n.RetiredAt.Add(KeepGone)) {
				p.do(Action{Kind: ForgetNode, Pool: n.Pool, NodeID: n.ID, State: n.State})
			}
		}
	}
}
