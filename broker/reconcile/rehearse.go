package reconcile

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Durations are how long work on a node takes in a rehearsal.
type Durations struct {
	Create  time.Duration `json:"create"`
	Check   time.Duration `json:"check"`
	Revoke  time.Duration `json:"revoke"`
	Destroy time.Duration `json:"destroy"`
}

// Script is what [Rehearse] takes for granted.
type Script struct {
	// Accounts bound how fast runs start. Each begins with one token of each kind,
	// as it does when a broker starts.
	Accounts []broker.Account
	// Durations gives those of a pool; it may have left the file.
	Durations func(pool string) Durations
	// Horizon is how far to look ahead.
	Horizon time.Duration
	// Effort bounds the cost: about how many nodes and pools may be looked at in
	// all passes together. The first half goes into exact times; then passes come
	// less often, so that the rest is enough: see [Rehearsal.Window]. 0: no bound.
	Effort int
	// Unknown are inventories of whose hosts nothing is known: it goes as if there
	// were always one.
	Unknown []string
}

// Step is an action, and when it is done.
type Step struct {
	At time.Time
	Action
	// Created is the id of the node that a [CreateNode] records: counted on from
	// the highest id in the world, of nodes and hosts.
	Created int64
	// Of is the node's state before the action, "" where it has none.
	Of broker.NodeState
}

// Level is how many ready nodes a pool has from a time on.
type Level struct {
	At    time.Time
	Pool  string
	Ready int
}

// Rehearsal is what a [Loop] would do.
type Rehearsal struct {
	// Steps are in the order in which the loop does them.
	Steps []Step
	// Levels has one for each pool at the beginning, and one for each change.
	Levels []Level
	// World is what is left at the end, without nodes that are gone.
	World World
	// End is when the last thing is done; where Complete is false, how far the
	// rehearsal got.
	End time.Time
	// Complete: nothing is left to be done but what is due after the horizon.
	Complete bool
	// Window is the longest time by which a step may come late, since passes had to
	// be spaced out; 0: all times are as the loop would have them.
	Window time.Duration
}

// Rehearse plays what a [Loop] does from now on, if nobody asks for nodes and all
// work succeeds: it makes passes as the loop does, lets [Plan] decide in each, and
// carries the actions out on a copy of w. It is pure.
//
// Nodes in w.Busy are being worked on since they came into their state.
func Rehearse(now time.Time, w World, s Script) Rehearsal {
	r := rehearsal{script: s, now: now, horizon: now.Add(s.Horizon), world: w, limits: make(limits), levels: make(map[string]int)}
	r.copyWorld()
	r.result.Complete = true
	for _, n := range r.world.Nodes {
		if r.world.Busy[n.ID] {
			r.work(workOn(n), n, n.Since)
		}
	}
	r.countReady()
	for {
		next, more := r.pass()
		if !more {
			break
		}
		if next.After(r.horizon) {
			r.result.Complete = len(r.ends) == 0
			break
		}
		r.now = next
		r.finish()
	}
	r.result.World = r.world
	if !r.result.Complete {
		r.result.End = r.now
	}
	return r.result
}

type rehearsal struct {
	script  Script
	now     time.Time
	horizon time.Time
	world   World
	nextID  int64
	limits  limits
	turns   turns
	ends    workEnds
	levels  map[string]int // ready nodes by pool
	gone    int            // nodes of the world that are gone
	hosts   map[int64]int  // places of the world's hosts, by id
	spent   int            // of the effort
	result  Rehearsal
}

// workEnd is when the work on a node ends.
type workEnd struct {
	at   time.Time
	node int64
	kind Kind
}

// workEnds is a heap, the next one first.
type workEnds []workEnd

func (e workEnds) Len() int           { return len(e) }
func (e workEnds) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e workEnds) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *workEnds) Push(x any)        { *e = append(*e, x.(workEnd)) }
func (e *workEnds) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

// copyWorld makes a world that may be changed, without nodes that are gone.
func (r *rehearsal) copyWorld() {
	w := &r.world
	r.copyHosts()
	nodes := make([]broker.Node, 0, len(w.Nodes))
	for _, n := range w.Nodes {
		r.nextID = max(r.nextID, n.ID)
		if n.State != broker.NodeGone {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b broker.Node) int { return cmp.Compare(a.ID, b.ID) })
	w.Nodes, w.Sessions = nodes, slices.Clone(w.Sessions)
	if w.Health = maps.Clone(w.Health); w.Health == nil {
		w.Health = make(map[string]broker.PoolHealth)
	}
	if w.Rollouts = maps.Clone(w.Rollouts); w.Rollouts == nil {
		w.Rollouts = make(map[string]broker.Rollout)
	}
	if w.Busy = maps.Clone(w.Busy); w.Busy == nil {
		w.Busy = make(map[int64]bool)
	}
	r.turns = turns{byPool: maps.Clone(w.Turns)}
	if r.turns.byPool == nil {
		r.turns.byPool = make(map[string]Turn)
	}
	for _, t := range r.turns.byPool {
		r.turns.last = max(r.turns.last, t.Create, t.Destroy)
	}
}

func (r *rehearsal) countReady() {
	for _, n := range r.world.Nodes {
		count := 0
		if n.State == broker.NodeReady {
			count = 1
		}
		r.levels[n.Pool] += count
	}
	for _, p := range r.world.Pools {
		r.levels[p.Name] += 0
	}
	for _, pool := range slices.Sorted(maps.Keys(r.levels)) {
		r.result.Levels = append(r.result.Levels, Level{r.now, pool, r.levels[pool]})
	}
}

// pass is [Loop.pass]: it gives the time of the next one, and false if there is
// none, since nothing is to be done any more.
func (r *rehearsal) pass() (next time.Time, more bool) {
	r.compact()
	r.world.Tokens = r.limits.fill(r.script.Accounts, r.now)
	r.world.Turns = r.turns.byPool
	r.spent += len(r.world.Nodes) + len(r.world.Pools)
	actions, due := Plan(r.now, r.world)
	if len(actions) > 0 {
		r.result.End = r.now
	}
	jobs := false
	for _, a := range actions {
		jobs = r.carryOut(a) || jobs
	}
	switch {
	case jobs:
		return r.spaced(r.now.Add(minPass)), true
	case len(r.ends) > 0 && (due.IsZero() || r.ends[0].at.Before(due)):
		due = r.ends[0].at
	case due.IsZero() && len(actions) > 0: // nothing wakes the loop
		due = r.now.Add(tick)
	case due.IsZero():
		return due, false
	}
	if len(actions) > 0 && due.After(r.now.Add(tick)) {
		due = r.now.Add(tick)
	}
	// A pass that a ticker makes in between finds nothing to do, but the next one
	// keeps its distance from it.
	last := r.now.Add(max(0, due.Sub(r.now)).Truncate(tick))
	if due.Sub(last) < minPass {
		if last.Equal(due) && last.After(r.now) {
			return r.spaced(due), true
		}
		due = last.Add(minPass)
	}
	return r.spaced(due), true
}

// spaced puts off a pass once half of the effort is spent, so that what is
// left of it is enough for the time that is left.
func (r *rehearsal) spaced(next time.Time) time.Time {
	if r.script.Effort == 0 || r.spent < r.script.Effort/2 {
		return next
	}
	passes := (r.script.Effort - r.spent) / max(1, len(r.world.Nodes)+len(r.world.Pools))
	window := (r.horizon.Sub(r.now) / time.Duration(max(1, passes))).Truncate(time.Second) + time.Second
	if at := r.now.Add(window); at.After(next) {
		r.result.Window = max(r.result.Window, window)
		return at
	}
	return next
}

// carryOut does to the world what the loop commits for an action, and tells
// whether there is a job to start after it.
func (r *rehearsal) carryOut(a Action) bool {
	step := Step{At: r.now, Action: a}
	if a.Kind == ExpireSession || a.Kind == AbandonSession {
		r.result.Steps = append(r.result.Steps, step)
		r.endSession(a.SessionID)
		return false
	}
	if a.Kind == StartRollout || a.Kind == PauseRollout || a.Kind == FinishRollout {
		r.result.Steps = append(r.result.Steps, step)
		r.moveRollout(a)
		return false
	}
	if a.Kind == CreateNode {
		if step.Created = r.create(a); step.Created == 0 {
			return false
		}
		r.result.Steps = append(r.result.Steps, step)
		r.take(a)
		return true
	}
	if a.Kind == MendHost {
		r.result.Steps = append(r.result.Steps, step)
		r.giveHost(a.HostID, a.NodeID)
		return false
	}
	n := r.node(a.NodeID)
	step.Of = n.State
	r.result.Steps = append(r.result.Steps, step)
	switch a.Kind {
	case ReleaseNode:
		next := broker.NodeReleasing
		if n.State == broker.NodePlanned {
			next = broker.NodeGone
		}
		r.move(n, next)
	case ReturnNode:
		n.SessionID = 0
		r.move(n, broker.NodeChecking)
	case ForgetNode:
		return false // there is none: nodes that are gone are left out
	case ApplyNode:
		if n.State == broker.NodePlanned {
			r.move(n, broker.NodeApplying)
			r.take(a)
		}
		r.work(a.Kind, *n, n.Since)
	case DestroyNode:
		if n.State != broker.NodeDestroying {
			r.move(n, broker.NodeDestroying)
		}
		r.take(a)
		r.work(a.Kind, *n, r.now)
	case CheckNode, RevokeNode, HoldNode:
		r.work(a.Kind, *n, r.now)
	case CreateNode, ExpireSession, AbandonSession, StartRollout, PauseRollout, FinishRollout, MendHost:
	}
	return true
}

// moveRollout is [Loop.moveRollout].
func (r *rehearsal) moveRollout(a Action) {
	rollout := r.world.Rollouts[a.Pool]
	switch a.Kind {
	case StartRollout:
		rollout = broker.Rollout{Pool: a.Pool, State: broker.RolloutRunning, Stale: a.Stale, StartedAt: r.now}
		for _, p := range r.world.Pools {
			if p.Name == a.Pool {
				rollout.Generation = p.Generation()
			}
		}
	case PauseRollout:
		rollout.State, rollout.Reason = broker.RolloutPaused, a.Reason
	case FinishRollout:
		rollout.State, rollout.Now, rollout.Reason = broker.RolloutDone, false, ""
	case ExpireSession, AbandonSession, ReleaseNode, ReturnNode, RevokeNode, DestroyNode, CreateNode, ApplyNode, CheckNode, HoldNode, ForgetNode, MendHost:
	}
	r.world.Rollouts[a.Pool] = rollout
}

// take notes a run that is started.
func (r *rehearsal) take(a Action) {
	kind := CreateNode
	if a.Kind == DestroyNode {
		kind = DestroyNode
	}
	r.limits.take(a.Account, kind)
	r.turns.note(a.Pool, kind)
}

// workOn gives the work that is being done on a node that is busy.
func workOn(n broker.Node) Kind {
	switch n.State {
	case broker.NodeChecking:
		return CheckNode
	case broker.NodeReleasing:
		return RevokeNode
	case broker.NodeDestroying:
		return DestroyNode
	case broker.NodePlanned, broker.NodeApplying, broker.NodeReady, broker.NodeReserved, broker.NodeContextualizing,
		broker.NodeDeployed, broker.NodeLost, broker.NodeFailed, broker.NodeHeld, broker.NodeGone:
	}
	return ApplyNode
}

// work lets work on a node begin, or go on that began earlier.
func (r *rehearsal) work(kind Kind, n broker.Node, since time.Time) {
	d := r.script.Durations(n.Pool)
	var takes time.Duration
	switch kind {
	case ApplyNode:
		takes = d.Create
	case CheckNode:
		takes = d.Check
	case RevokeNode:
		takes = d.Revoke
	case DestroyNode:
		takes = d.Destroy
	case HoldNode, CreateNode, ReleaseNode, ReturnNode, ForgetNode, ExpireSession, AbandonSession, StartRollout, PauseRollout, FinishRollout, MendHost:
	}
	r.world.Busy[n.ID] = true
	end := since.Add(takes)
	if end.Before(r.now) {
		end = r.now
	}
	heap.Push(&r.ends, workEnd{end, n.ID, kind})
}

// finish ends all work that is due.
func (r *rehearsal) finish() {
	for len(r.ends) > 0 && !r.ends[0].at.After(r.now) {
		end := heap.Pop(&r.ends).(workEnd)
		if end.at.After(r.result.End) {
			r.result.End = end.at
		}
		n := r.node(end.node)
		delete(r.world.Busy, n.ID)
		switch end.kind {
		case HoldNode:
			r.move(n, broker.NodeHeld)
		case ApplyNode:
			r.move(n, broker.NodeChecking)
		case CheckNode:
			r.ready(n)
		case RevokeNode:
			n.Touched = false
		case DestroyNode:
			r.move(n, broker.NodeGone)
		case CreateNode, ReleaseNode, ReturnNode, ForgetNode, ExpireSession, AbandonSession, StartRollout, PauseRollout, FinishRollout, MendHost:
		}
	}
}

// ready ends a check.
func (r *rehearsal) ready(n *broker.Node) {
	r.trustHost(*n)
	if n.Hold != nil {
		r.move(n, broker.NodeHeld)
		return
	}
	for i := range r.world.Pools {
		if p := &r.world.Pools[i]; p.Name == n.Pool && p.Current(*n) && !n.Touched {
			if h := succeeded(*p, r.world.Health[n.Pool], *n); h.Well() {
				delete(r.world.Health, n.Pool)
			} else {
				r.world.Health[n.Pool] = h
			}
		}
	}
	n.Touched = false
	r.move(n, broker.NodeReady)
}

// move takes a node to its next state, whatever the table says.
func (r *rehearsal) move(n *broker.Node, next broker.NodeState) {
	before := r.levels[n.Pool]
	if n.State == broker.NodeReady {
		r.levels[n.Pool]--
	}
	if next == broker.NodeReady {
		r.levels[n.Pool]++
	}
	if next == broker.NodeGone {
		r.gone++
		r.leaveHost(*n)
	}
	n.State, n.Since, n.Attempts, n.RetryAt = next, r.now, 0, time.Time{}
	if r.levels[n.Pool] == before {
		return
	}
	r.result.Levels = append(r.result.Levels, Level{r.now, n.Pool, r.levels[n.Pool]})
}

// endSession is [broker.EndSession].
func (r *rehearsal) endSession(id int64) {
	w := &r.world
	i := slices.IndexFunc(w.Sessions, func(s broker.Session) bool { return s.ID == id })
	s := w.Sessions[i]
	w.Sessions = slices.Delete(w.Sessions, i, i+1)
	for _, lent := range s.Nodes {
		n := r.node(lent.ID)
		if n == nil || n.SessionID != s.ID {
			continue
		}
		next := broker.NodeReleasing
		if s.State == broker.SessionPreparing && n.State != broker.NodeDeployed {
			next = broker.NodeChecking
		}
		if !n.State.CanBecome(next) {
			continue
		}
		if next == broker.NodeChecking {
			n.SessionID = 0
		}
		r.move(n, next)
	}
}

// create adds a node of a pool, and gives its id.
func (r *rehearsal) create(a Action) int64 {
	for i := range r.world.Pools {
		if r.world.Pools[i].Name != a.Pool {
			continue
		}
		p, ok := r.world.Pools[i].As(a.Variant)
		if !ok {
			return 0
		}
		r.nextID++
		// Its uid, which is random, decides when its age makes it go: some day will do.
		n := broker.Node{ID: r.nextID, UID: fmt.Sprintf("%016x", r.nextID), Pool: a.Pool, State: broker.NodeApplying, Since: r.now, CreatedAt: r.now, Source: p.Source, Variant: a.Variant, Account: p.Account}
		if n.Host = r.nodeHost(a.HostID); n.Host != nil {
			r.giveHost(a.HostID, n.ID)
			r.host(a.HostID).Uses++
		}
		r.world.Nodes = append(r.world.Nodes, n)
		r.work(ApplyNode, n, r.now)
		return n.ID
	}
	return 0
}

// node gives a node of the world, nil if there is none. It is valid until the
// next one is created.
func (r *rehearsal) node(id int64) *broker.Node {
	i, found := slices.BinarySearchFunc(r.world.Nodes, id, func(n broker.Node, id int64) int { return cmp.Compare(n.ID, id) })
	if !found {
		return nil
	}
	return &r.world.Nodes[i]
}

// compact takes nodes that are gone out of the world.
func (r *rehearsal) compact() {
	if r.gone > 0 {
		r.world.Nodes = slices.DeleteFunc(r.world.Nodes, func(n broker.Node) bool { return n.State == broker.NodeGone })
		r.gone = 0
	}
}
