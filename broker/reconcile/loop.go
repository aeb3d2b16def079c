package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// Config is what a [Loop] is made of. All fields but Observe and ObservePass are
// required.
type Config struct {
	Store          broker.Store
	Provisioner    broker.Provisioner
	Contextualizer broker.Contextualizer
	Pools          *broker.PoolSet
	// Serving gives the requests in progress: [broker.Broker.Serving].
	Serving func() map[string]bool
	// Runs is how many Terraform runs may be in flight at once.
	Runs int
	// Unmet gives the nodes that requests wait for: [broker.Broker.Unmet]. nil
	// stands for none.
	Unmet func(now time.Time) map[string]int
	// Soon is told of each pool in which a create was cut short, so that it may
	// have left what no record knows: [Sweeper.Soon]. nil tells nobody.
	Soon func(pool string)
	// Identity gives the sealed identity of a new node, see [broker.Node]. nil gives
	// none.
	Identity func(uid string) []byte
	Log      *slog.Logger
	Now      func() time.Time
	// Observe is told of each node that the loop took to a new state, after the
	// commit. It must not block.
	Observe func(broker.Node)
	// ObservePass is told of each pass when it is over. It must not block.
	ObservePass func(Pass)
}

const (
	// tick is the longest time between two passes: the fallback should a wake-up
	// be missed.
	tick = 30 * time.Second
	// retryPass is how long a pass waits after the store refused.
	retryPass = time.Second
	// minPass spaces passes out, so that a burst of wake-ups costs one.
	minPass = 20 * time.Millisecond
	// revokeTimeout bounds taking a tenant's key off a node that is about to be
	// destroyed anyway.
	revokeTimeout = 10 * time.Second
	// minCheck is the least time that a ready check gets.
	minCheck = 30 * time.Second
	// tidyEvery is how often old records are looked at. There are many more of
	// them than of live ones, and they are in no hurry.
	tidyEvery = time.Hour
	// keepEvents is how long events stay readable.
	keepEvents = 7 * 24 * time.Hour
	// KeepRuns is how long the logs of Terraform runs stay readable.
	KeepRuns = 7 * 24 * time.Hour
)

// Loop plans and carries out, until it is stopped. It is level-triggered: woken
// by changes, by the next due time and by a ticker, it looks at the whole world
// each time.
type Loop struct {
	cfg  Config
	wake chan struct{}

	workers sync.WaitGroup
	passing sync.Mutex // a pass is under way, or a Change
	mu      sync.Mutex
	busy    map[int64]bool
	tidied  time.Time // when old records were last looked at
	passed  time.Time // when a pass last succeeded
	limits  limits    // belongs to the pass, as the turns and the backlog do
	turns   turns
	backlog backlog
	mirror  mirror
	wrong   int // records of the mirror that the last pass had to mend

	verifyEvery time.Duration
}

// New makes a Loop; Run starts it.
func New(cfg Config) *Loop {
	if cfg.Observe == nil {
		cfg.Observe = func(broker.Node) {}
	}
	if cfg.ObservePass == nil {
		cfg.ObservePass = func(Pass) {}
	}
	if cfg.Soon == nil {
		cfg.Soon = func(string) {}
	}
	if cfg.Identity == nil {
		cfg.Identity = func(string) []byte { return nil }
	}
	if cfg.Unmet == nil {
		cfg.Unmet = func(time.Time) map[string]int { return nil }
	}
	return &Loop{
		cfg: cfg, wake: make(chan struct{}, 1), busy: make(map[int64]bool),
		verifyEvery: verifyEvery,
		limits:      make(limits), turns: turns{byPool: make(map[string]Turn)},
	}
}

// Wake asks for a pass soon. It never blocks, and many calls make one pass.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Change runs fn while no pass is under way: what fn changes in the store and in
// the pools, a plan sees all of or nothing. fn must be quick.
func (l *Loop) Change(fn func() error) error {
	l.passing.Lock()
	defer l.passing.Unlock()
	return fn()
}

// Turns gives when pools were last served: see [World]. It waits for the end of a
// pass that is under way.
func (l *Loop) Turns() map[string]broker.PoolTurn {
	l.passing.Lock()
	defer l.passing.Unlock()
	all := make(map[string]broker.PoolTurn, len(l.turns.byPool))
	for pool, t := range l.turns.byPool {
		all[pool] = broker.PoolTurn(t)
	}
	return all
}

// Run makes passes until ctx ends, and returns when all of its workers have.
// Terraform runs in flight go on by themselves; the next Run adopts them.
func (l *Loop) Run(ctx context.Context) {
	defer l.workers.Wait()
	for ctx.Err() == nil {
		began := time.Now()
		due, err := l.pass(ctx)
		l.over(time.Since(began), err)
		wait := tick
		switch {
		case err != nil && ctx.Err() == nil:
			l.cfg.Log.ErrorContext(ctx, "reconcile pass", "error", err)
			wait = retryPass
		case !due.IsZero():
			wait = min(wait, max(0, due.Sub(l.cfg.Now())))
		}
		// A pass over many nodes takes time: leave the store to others as long.
		pause := max(minPass, time.Since(began))
		if !sleep(ctx, pause, nil) || !sleep(ctx, wait-pause, l.wake) {
			return
		}
	}
}

// sleep waits for d, or until woken; it tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(max(0, d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}

// ReadWorld reads what [Plan] wants to know, in one transaction: nodes in the
// given states, and the sessions that may hold some. Busy, Serving, Tokens,
// Unmet and Turns are left out: they are known to a running loop only.
func ReadWorld(ctx context.Context, store broker.Store, pools []broker.Pool, runs int, states []broker.NodeState) (World, error) {
	w := World{Pools: pools, Runs: runs}
	err := store.View(ctx, func(tx broker.ReadTx) (err error) {
		if w.Nodes, err = tx.Nodes(broker.NodeQuery{States: states}); err != nil {
			return err
		}
		w.Sessions, err = tx.Sessions(broker.SessionQuery{States: holdingStates()})
		if err != nil {
			return err
		}
		return w.readPools(tx)
	})
	return w, err
}

// readPools reads what the store keeps of pools.
func (w *World) readPools(tx broker.ReadTx) error {
	healths, err := tx.PoolHealths()
	w.Health = make(map[string]broker.PoolHealth, len(healths))
	for _, h := range healths {
		w.Health[h.Pool] = h
	}
	if err != nil {
		return err
	}
	rollouts, err := tx.Rollouts()
	w.Rollouts = make(map[string]broker.Rollout, len(rollouts))
	for _, r := range rollouts {
		w.Rollouts[r.Pool] = r
	}
	if err != nil {
		return err
	}
	return w.readHosts(tx)
}

// readWorld is [ReadWorld] of live nodes, by the mirror.
func (l *Loop) readWorld(ctx context.Context, pools []broker.Pool, now time.Time) (World, error) {
	w := World{Pools: pools, Runs: l.cfg.Runs}
	wrong, err := l.mirror.read(ctx, l.cfg.Store, &w, now, l.verifyEvery)
	l.wrong = wrong
	if wrong > 0 {
		l.cfg.Log.ErrorContext(ctx, "the broker's copy of its nodes and sessions was wrong, and was made anew: this is a defect of the broker", "records", wrong)
	}
	return w, err
}

// pass plans once, commits all changes of state that the plan asks for in one
// transaction, and starts the work that follows from them.
func (l *Loop) pass(ctx context.Context) (due time.Time, err error) {
	l.passing.Lock()
	defer l.passing.Unlock()
	now := l.cfg.Now()
	select { // what woke the loop until here is seen by this pass, and needs no other
	case <-l.wake:
	default:
	}
	states := broker.LiveNodeStates()
	tidy := now.Sub(l.tidied) >= tidyEvery
	if tidy {
		states = broker.NodeStates()
	}
	l.wrong = 0
	pools, accounts := l.cfg.Pools.File()
	var w World
	if tidy {
		w, err = ReadWorld(ctx, l.cfg.Store, pools, l.cfg.Runs, states)
	} else {
		w, err = l.readWorld(ctx, pools, now)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the store: %w", err)
	}
	// After the snapshot, never before: what the snapshot shows in progress had
	// been entered here earlier, so nothing in progress can look abandoned.
	w.Serving = l.cfg.Serving()
	w.Busy = l.busyNodes()
	w.Tokens = l.limits.fill(accounts, now)
	w.Unmet = l.cfg.Unmet(now)
	w.Turns = l.turns.byPool
	planned := plan(now, w)
	actions, due := planned.actions, planned.due
	l.backlog = planned.backlog()
	jobs, err := l.commit(ctx, now, actions)
	if err != nil {
		return time.Time{}, fmt.Errorf("commit the plan: %w", err)
	}
	for _, j := range jobs {
		if j.starts != "" {
			l.limits.take(j.account, j.starts)
			l.turns.note(j.node.Pool, j.starts)
		}
		l.start(ctx, j)
	}
	if len(jobs) > 0 {
		l.Wake() // what these changes free may be wanted at once
	}
	if tidy {
		err = l.prune(ctx, now)
	}
	return due, err
}

func (l *Loop) busyNodes() map[int64]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	busy := make(map[int64]bool, len(l.busy))
	for id := range l.busy {
		busy[id] = true
	}
	return busy
}

func (l *Loop) prune(ctx context.Context, now time.Time) error {
	err := l.cfg.Store.Update(ctx, func(tx broker.Tx) error {
		if _, err := tx.PruneEvents(now.Add(-keepEvents)); err != nil {
			return err
		}
		if _, err := tx.PruneRuns(now.Add(-KeepRuns)); err != nil {
			return err
		}
		return broker.PruneIdempotency(tx, now)
	})
	if err != nil {
		return fmt.Errorf("prune old records: %w", err)
	}
	l.tidied = now
	return nil
}

// job is the work outside the store that follows from an action.
type job struct {
	kind    Kind
	node    broker.Node // as committed
	account string      // whose token it takes
	starts  Kind        // the Terraform run that it starts: CreateNode, DestroyNode, or "" for none
}

// commit makes the plan's changes of state, all or none. An action whose node
// or session has moved on since the plan was made is left out.
func (l *Loop) commit(ctx context.Context, now time.Time, actions []Action) (jobs []job, err error) {
	if len(actions) == 0 {
		return nil, nil
	}
	err = l.cfg.Store.Update(ctx, func(tx broker.Tx) error {
		jobs = nil
		for _, a := range actions {
			j, err := l.commitAction(tx, now, a)
			if broker.IsTransition(err) || broker.CodeOf(err) == broker.CodeNotFound {
				continue // somebody was faster; the next pass sees how it is now
			}
			if err != nil {
				return fmt.Errorf("%s of pool %q node %d session %d: %w", a.Kind, a.Pool, a.NodeID, a.SessionID, err)
			}
			if j != nil {
				jobs = append(jobs, *j)
			}
		}
		return nil
	})
	return jobs, err
}

func (l *Loop) commitAction(tx broker.Tx, now time.Time, a Action) (*job, error) {
	switch a.Kind {
	case ExpireSession, AbandonSession:
		return nil, endSession(tx, now, a)
	case CreateNode:
		return l.createNode(tx, now, a)
	case MendHost:
		return nil, broker.MendHost(tx, a.HostID, a.NodeID, now)
	case StartRollout, PauseRollout, FinishRollout:
		return nil, l.moveRollout(tx, now, a)
	case ReleaseNode, ReturnNode, RevokeNode, DestroyNode, ApplyNode, CheckNode, HoldNode, ForgetNode:
	}
	n, err := tx.Node(a.NodeID)
	if err != nil {
		return nil, err
	}
	if n.State != a.State {
		return nil, &broker.TransitionError{Object: fmt.Sprintf("node %d", n.ID), From: string(n.State), Expected: string(a.State)}
	}
	if n.ToBeHeld() != (a.Kind == HoldNode) && a.Kind != RevokeNode { // asked for, or taken back, just now
		return nil, &broker.TransitionError{Object: fmt.Sprintf("node %d", n.ID), From: string(n.State), To: string(broker.NodeHeld)}
	}
	// Work that ended between the plan's look at the store and its look at who is
	// busy leaves the state as it was, and is not to be done once more.
	if a.Kind == RevokeNode && !n.Touched || a.Kind == DestroyNode && n.RetryAt.After(now) {
		return nil, &broker.TransitionError{Object: fmt.Sprintf("node %d", n.ID), From: string(n.State), Expected: string(a.State)}
	}
	var starts Kind
	switch a.Kind {
	case ReleaseNode:
		next := broker.NodeReleasing
		if n.State == broker.NodePlanned {
			next = broker.NodeGone // nothing was made
		}
		err = broker.MoveNode(tx, &n, next, now, a.Reason)
	case ReturnNode:
		n.SessionID = 0
		err = broker.MoveNode(tx, &n, broker.NodeChecking, now, a.Reason)
	case ForgetNode:
		return nil, tx.DeleteNode(n.ID)
	case ApplyNode:
		if n.State == broker.NodePlanned {
			starts = CreateNode
			err = broker.MoveNode(tx, &n, broker.NodeApplying, now, a.Reason)
		}
	case DestroyNode:
		starts = DestroyNode
		if n.State != broker.NodeDestroying {
			failure := n.Failure
			err = broker.MoveNode(tx, &n, broker.NodeDestroying, now, failure)
		}
	case CheckNode, RevokeNode, HoldNode, CreateNode, ExpireSession, AbandonSession, StartRollout, PauseRollout, FinishRollout, MendHost:
	}
	if err != nil {
		return nil, err
	}
	return &job{kind: a.Kind, node: n, account: a.Account, starts: starts}, nil
}

func endSession(tx broker.Tx, now time.Time, a Action) error {
	s, err := tx.Session(a.SessionID)
	if err != nil {
		return err
	}
	if s.State != a.Session || a.Kind == ExpireSession && s.ExpiresAt.After(now) { // extended meanwhile
		return &broker.TransitionError{Object: fmt.Sprintf("session %d", s.ID), From: string(s.State), Expected: string(a.Session)}
	}
	return broker.EndSession(tx, &s, now, a.Reason)
}

// createNode records a node and marks it as applying, before Terraform hears of
// it. The maximum is checked once more, inside the transaction.
func (l *Loop) createNode(tx broker.Tx, now time.Time, a Action) (*job, error) {
	p, ok := l.cfg.Pools.Get(a.Pool)
	if !ok {
		return nil, nil // left the file just now
	}
	p, _ = schedule.Pool(p, now)
	if p, ok = p.As(a.Variant); !ok {
		return nil, nil // it has other variants now
	}
	counts, err := tx.CountNodes(a.Pool)
	if err != nil {
		return nil, err
	}
	total := 0
	for state, count := range counts {
		if state != broker.NodeGone {
			total += count
		}
	}
	if total >= p.MaxNodes {
		return nil, nil
	}
	n := broker.NewNode(p, now)
	n.Identity = l.cfg.Identity(n.UID)
	if err := broker.AddNode(tx, p, &n, a.HostID, now); err != nil {
		return nil, err
	}
	if err := broker.MoveNode(tx, &n, broker.NodeApplying, now, a.Reason); err != nil {
		return nil, err
	}
	return &job{kind: ApplyNode, node: n, account: a.Account, starts: CreateNode}, nil
}
