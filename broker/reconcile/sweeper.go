package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// SweeperConfig is what a [Sweeper] is made of. All fields but Observe are
// required.
type SweeperConfig struct {
	Store  broker.Store
	Lister broker.Lister
	Pools  *broker.PoolSet
	Log    *slog.Logger
	Now    func() time.Time
	// Wake tells the loop that there is something to destroy. It must not block.
	Wake func()
	// Observe is told of each sweep when it is over. It must not block.
	Observe func(SweepSeen)
}

const (
	// soonAfter is how long a sweep waits that was asked for: what a killed run
	// has begun may take a moment to be listed.
	soonAfter = 10 * time.Second
	// sweepTick is how often changed pools are noticed while none is due.
	sweepTick = time.Minute
)

// Sweeper looks for what exists though no record knows it, and for records of
// what does not exist any more, pool by pool, until it is stopped. [PlanSweep]
// decides. What it finds it writes into the store: the loop does the rest.
type Sweeper struct {
	cfg  SweeperConfig
	wake chan struct{}

	mu   sync.Mutex
	soon map[string]time.Time // when a sweep was asked for, by sweptAs

	pools map[string]*swept // by sweptAs; belongs to Run
}

// swept is what is remembered of a pool.
type swept struct {
	due        time.Time
	generation string // what the sightings were made with
	Sightings
}

// A pool with variants is swept once for each of them: a listing sees what its
// variables, such as a region, let it see.

// ways gives the pools once for each variant.
func ways(pools []broker.Pool) (all []broker.Pool) {
	for _, p := range pools {
		all = append(all, p.Ways()...)
	}
	return all
}

// sweptAs names one of the ways of a pool.
func sweptAs(way broker.Pool) string {
	if len(way.Variants) == 0 {
		return way.Name
	}
	return way.Name + "/" + way.Variants[0].Name
}

// NewSweeper makes a Sweeper; Run starts it.
func NewSweeper(cfg SweeperConfig) *Sweeper {
	if cfg.Observe == nil {
		cfg.Observe = func(SweepSeen) {}
	}
	return &Sweeper{cfg: cfg, wake: make(chan struct{}, 1), soon: map[string]time.Time{}, pools: map[string]*swept{}}
}

// Soon asks for one sweep of a pool ahead of its time: a run was cut short there.
// It never blocks.
func (s *Sweeper) Soon(pool string) {
	p, _ := s.cfg.Pools.Get(pool)
	s.mu.Lock()
	for _, way := range p.Ways() {
		if _, asked := s.soon[sweptAs(way)]; !asked {
			s.soon[sweptAs(way)] = s.cfg.Now().Add(soonAfter)
		}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run sweeps until ctx ends, one pool at a time.
func (s *Sweeper) Run(ctx context.Context) {
	for ctx.Err() == nil {
		pool, due, ok := s.next()
		wait := sweepTick
		if ok {
			wait = min(wait, due.Sub(s.cfg.Now()))
		}
		if ok && wait <= 0 {
			s.pass(ctx, pool)
			continue
		}
		if !sleep(ctx, wait, s.wake) {
			return
		}
	}
}

// next gives the pool whose sweep is due first.
func (s *Sweeper) next() (first broker.Pool, due time.Time, ok bool) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[string]*swept)
	for _, p := range ways(s.cfg.Pools.All()) {
		if !p.Source.Sweeps || p.Sweep.Interval <= 0 {
			continue
		}
		memory := s.pools[sweptAs(p)]
		if memory == nil || memory.generation != p.Source.Generation {
			// Not all pools of a file at once.
			spread := time.Duration(rand.Int64N(int64(p.Sweep.Interval)/2 + 1)) //nolint:gosec // no secret
			memory = &swept{generation: p.Source.Generation, due: now.Add(spread)}
		}
		known[sweptAs(p)] = memory
		at := memory.due
		if latest := now.Add(p.Sweep.Interval); at.After(latest) { // the interval has become shorter
			at, memory.due = latest, latest
		}
		if soon, asked := s.soon[sweptAs(p)]; asked && soon.Before(at) {
			at = soon
		}
		if !ok || at.Before(due) {
			first, due, ok = p, at, true
		}
	}
	s.pools = known
	maps.DeleteFunc(s.soon, func(name string, _ time.Time) bool { return known[name] == nil })
	return first, due, ok
}

// pass sweeps one pool.
func (s *Sweeper) pass(ctx context.Context, p broker.Pool) {
	s.mu.Lock()
	delete(s.soon, sweptAs(p))
	s.mu.Unlock()
	memory := s.pools[sweptAs(p)]
	began := s.cfg.Now()
	listing, err := s.cfg.Lister.List(ctx, p)
	if ctx.Err() != nil {
		return
	}
	memory.due = s.cfg.Now().Add(p.Sweep.Interval)
	if err != nil {
		memory.Sightings = Sightings{Listed: memory.Listed}
		s.cfg.Log.WarnContext(ctx, "sweep: the listing has failed; nothing follows from it", "pool", p.Name, "error", err)
		s.cfg.Observe(SweepSeen{Pool: p.Name, Result: SweepFailed})
		return
	}
	w := SweepWorld{Pool: p, Began: began, Listing: listing, Earlier: memory.Sightings}
	plan, done, err := s.carryOut(ctx, w)
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "sweep: what was found can't be written down; it is looked for again", "pool", p.Name, "error", err)
			s.cfg.Observe(SweepSeen{Pool: p.Name, Result: SweepFailed})
		}
		return // the sightings stay as they were
	}
	memory.Sightings = plan.Sightings
	if plan.Distrusted != "" {
		s.cfg.Log.WarnContext(ctx, "sweep: nothing follows from the listing", "pool", p.Name, "reason", plan.Distrusted, "listed", len(listing.Nodes))
		s.cfg.Observe(SweepSeen{Pool: p.Name, Result: SweepDistrusted})
		return
	}
	for _, uid := range plan.Malformed {
		s.cfg.Log.WarnContext(ctx, "sweep: something has this broker's tag and no node id that it could have; it is left alone", "pool", p.Name, "node_uid", uid)
	}
	for _, uid := range plan.Bare {
		s.cfg.Log.WarnContext(ctx, "sweep: a leak has no import id in the listing, so that it must be removed by hand", "pool", p.Name, "node_uid", uid)
	}
	for _, n := range done {
		s.cfg.Log.WarnContext(ctx, "sweep: a node was taken over to be destroyed, or given up", "failure", n.Failure, "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "state", string(n.State), "session_id", n.SessionID)
	}
	s.cfg.Log.InfoContext(ctx, "swept", "pool", p.Name, "listed", len(listing.Nodes), "unknown", len(plan.Sightings.Unknown),
		"missing", len(plan.Sightings.Missing), "leaks", len(plan.Leaks), "vanished", len(plan.Vanished), "found", len(plan.Found), "left_for_next", plan.Left)
	s.cfg.Observe(seenBy(p.Name, plan, done))
	if len(done) > 0 {
		s.cfg.Wake()
	}
}

// carryOut plans, and writes down what follows. A plan that asks for changes is
// made again inside the transaction that makes them: much may have happened
// during a listing.
func (s *Sweeper) carryOut(ctx context.Context, w SweepWorld) (plan SweepPlan, done []broker.Node, err error) {
	err = s.cfg.Store.View(ctx, func(tx broker.ReadTx) error {
		plan, err = s.plan(tx, w)
		return err
	})
	if err != nil || len(plan.Leaks)+len(plan.Vanished)+len(plan.Found) == 0 {
		return plan, nil, err
	}
	// What a pool was made from may be removed as soon as it has changed, unless a
	// node keeps it: nothing is adopted into it any more.
	if p, known := s.cfg.Pools.Get(w.Pool.Name); !known || !slices.ContainsFunc(p.Ways(), func(way broker.Pool) bool {
		return way.Source.Generation == w.Pool.Source.Generation
	}) {
		return SweepPlan{}, nil, nil
	}
	err = s.cfg.Store.Update(ctx, func(tx broker.Tx) error {
		done = nil
		if plan, err = s.plan(tx, w); err != nil {
			return err
		}
		now := s.cfg.Now()
		for _, leak := range plan.Leaks {
			n, err := adopt(tx, w.Pool, leak, now)
			if err != nil {
				return fmt.Errorf("adopt node %s: %w", leak.UID, err)
			}
			done = append(done, n)
		}
		for _, n := range plan.Found {
			if err := tx.UpdateNode(n.State, n); err != nil {
				return fmt.Errorf("note what there is of node %s: %w", n.UID, err)
			}
		}
		for _, n := range plan.Vanished {
			given, err := giveUp(tx, &n, now)
			if err != nil {
				return fmt.Errorf("give up node %s: %w", n.UID, err)
			}
			if given {
				done = append(done, n)
			}
		}
		return nil
	})
	return plan, done, err
}

func (s *Sweeper) plan(tx broker.ReadTx, w SweepWorld) (SweepPlan, error) {
	nodes, err := tx.Nodes(broker.NodeQuery{})
	if err != nil {
		return SweepPlan{}, err
	}
	w.Nodes = nodes
	return PlanSweep(s.cfg.Now(), w), nil
}

// adopt makes a failed node of a leak, or of what was left of one that was
// thought to be gone. The way of every failed node follows.
func adopt(tx broker.Tx, p broker.Pool, leak broker.ListedNode, now time.Time) (broker.Node, error) {
	n, err := goneNode(tx, leak.UID)
	if err != nil {
		return n, err
	}
	fresh, made := n.ID == 0, broker.NewNode(p, now)
	if fresh {
		n = made
		n.UID, n.Hostname = leak.UID, broker.DefaultHostname(leak.UID)
		n.State = broker.NodeGone // as far as the records went
	}
	// What it is imported with is what it was listed with.
	n.Source, n.DestroyTimeout, n.Account, n.ProviderSharing = p.Source, p.DestroyTimeout, p.Account, false
	n.Variant = made.Variant
	n.Import, n.Touched, n.Address = leak.Resources, false, leak.Address
	n.Failure, n.FailureClass = "leaked: found by the sweep, though no record knew it", broker.FailureOther
	if !fresh {
		n.Failure = "leaked: found by the sweep, though it counted as gone"
	}
	if fresh {
		if err := tx.CreateNode(&n); err != nil {
			return n, err
		}
	}
	return n, broker.MoveNode(tx, &n, broker.NodeFailed, now, n.Failure)
}

// goneNode gives the record of a node that is gone, by uid; a zero one if there
// is none. Live ones are no leaks: the plan has seen to that in this transaction.
func goneNode(tx broker.ReadTx, uid string) (broker.Node, error) {
	gone, err := tx.Nodes(broker.NodeQuery{States: []broker.NodeState{broker.NodeGone}})
	for _, n := range gone {
		if n.UID == uid {
			return n, err
		}
	}
	return broker.Node{}, err
}

// giveUp takes a node that has vanished out of use, and tells whether it did. A
// node that is lent stays its session's, which is told.
func giveUp(tx broker.Tx, n *broker.Node, now time.Time) (bool, error) {
	n.Failure, n.FailureClass = "vanished: it is not listed any more", broker.FailureOther
	if n.State != broker.NodeDeployed {
		return true, broker.MoveNode(tx, n, broker.NodeFailed, now, n.Failure)
	}
	session, err := tx.Session(n.SessionID)
	if broker.CodeOf(err) == broker.CodeNotFound || err == nil && session.State != broker.SessionActive {
		return false, nil // still being prepared, or the loop is about to take it back
	}
	if err != nil {
		return false, err
	}
	if err := broker.MoveNode(tx, n, broker.NodeLost, now, n.Failure); err != nil {
		return false, err
	}
	return true, tx.AppendEvent(&broker.Event{
		At: now, Kind: broker.EventSession, Pool: n.Pool, NodeID: n.ID, SessionID: session.ID, TenantID: session.TenantID,
		From: string(session.State), To: string(session.State), Message: fmt.Sprintf("node %d (%s) has vanished", n.ID, n.Hostname),
	})
}
