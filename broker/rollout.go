package broker

import (
	"context"
	"slices"
	"strings"
	"time"
)

// RolloutSettings say how the stale nodes of a pool's stock are replaced. Lent
// nodes are never touched.
type RolloutSettings struct {
	// MaxSurge is how many nodes above the fill level may be made to replace stale
	// ones, within the pool's maximum.
	MaxSurge int `json:"max_surge"`
	// MaxUnavailable is by how many nodes stock may fall below the fill level.
	MaxUnavailable int `json:"max_unavailable"`
	// PauseAfter is after how many creates that fail in a row the rollout waits for
	// an admin.
	PauseAfter int `json:"pause_after"`
	// NoStale: stale nodes are not lent.
	NoStale bool `json:"no_stale,omitempty"`
}

// RolloutState says how far a [Rollout] is.
type RolloutState string

// The states of a rollout.
const (
	RolloutRunning RolloutState = "running" // stale nodes are being replaced
	RolloutPaused  RolloutState = "paused"  // until an admin says otherwise
	RolloutAborted RolloutState = "aborted" // stale nodes stay until they are lent
	RolloutDone    RolloutState = "done"    // none is left in stock
)

// Rollout is the replacement of a pool's stale stock, after a change of what its
// nodes are made from. A pool has at most one, that of its present generation.
type Rollout struct {
	Pool       string       `json:"pool"`
	Generation string       `json:"generation"` // that it leads to
	State      RolloutState `json:"state"`
	// Now: an admin wants it as fast as the pool's maximum allows.
	Now       bool      `json:"now,omitempty"`
	Stale     int       `json:"stale"` // nodes to replace when it began
	StartedAt time.Time `json:"started_at"`
	ChangedAt time.Time `json:"changed_at"`       // when it came into its state
	Reason    string    `json:"reason,omitempty"` // of a pause or an abort
}

// Open tells whether a rollout goes on, or may go on.
func (r Rollout) Open() bool { return r.State == RolloutRunning || r.State == RolloutPaused }

// RolloutOrder is what an admin wants of a rollout.
type RolloutOrder string

// The orders.
const (
	// RolloutPause stops it until it is resumed. Nodes that are being made are
	// finished.
	RolloutPause RolloutOrder = "pause"
	// RolloutResume lets a paused or aborted one go on, and forgets the failures that
	// paused it.
	RolloutResume RolloutOrder = "resume"
	// RolloutNow resumes it, and replaces all nodes as fast as the pool's maximum
	// allows.
	RolloutNow RolloutOrder = "now"
	// RolloutAbort ends it. What was replaced stays, and so do the stale nodes.
	RolloutAbort RolloutOrder = "abort"
)

// RolloutOrders lists the orders.
func RolloutOrders() []RolloutOrder {
	return []RolloutOrder{RolloutPause, RolloutResume, RolloutNow, RolloutAbort}
}

// RolloutStatus is how far the rollout of a pool is.
type RolloutStatus struct {
	// Rollout has no state if there never was one, or none yet for the pool's
	// generation.
	Rollout
	Fill     int // the pool's fill level
	Ready    int // nodes in stock, stale or not
	ReadyNew int // of those, the ones of the present generation
	Making   int // nodes of the present generation on their way into stock
	StaleNow int // nodes in stock, or on their way there, of an older one
	StaleOut int // lent nodes of an older one, which are left alone
	Failures int // creates that failed since the last that succeeded
	// Failure is the last of those.
	Failure string
}

// Finished tells whether nothing is left to replace.
func (s RolloutStatus) Finished() bool { return s.StaleNow == 0 }

// Rollouts tells of all pools, in the order of the file, how far their rollouts
// are. CodeForbidden unless actor is an admin.
func (b *Broker) Rollouts(ctx context.Context, actor Tenant) (list []RolloutStatus, err error) {
	if !actor.IsAdmin {
		return nil, errAdminsOnly("see rollouts")
	}
	now := b.cfg.Now()
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		list = nil
		nodes, err := tx.Nodes(NodeQuery{States: LiveNodeStates()})
		if err != nil {
			return err
		}
		byPool := make(map[string][]Node)
		for _, n := range nodes {
			byPool[n.Pool] = append(byPool[n.Pool], n)
		}
		for _, p := range b.cfg.Pools.All() {
			s, err := rolloutStatus(tx, b.effective(p, now), byPool[p.Name])
			if err != nil {
				return err
			}
			list = append(list, s)
		}
		return nil
	})
	return list, err
}

func rolloutStatus(tx ReadTx, p Pool, nodes []Node) (RolloutStatus, error) {
	s := RolloutStatus{Fill: p.FillLevel}
	var err error
	if s.Rollout, err = tx.Rollout(p.Name); err != nil {
		return s, err
	}
	if s.Generation != p.Generation() {
		s.Rollout = Rollout{Pool: p.Name, Generation: p.Generation()}
	}
	h, err := tx.PoolHealth(p.Name)
	if err != nil {
		return s, err
	}
	if h.Generation == p.Generation() {
		s.Failures, s.Failure = h.Failures, h.Message
	}
	for _, n := range nodes {
		stale, err := staleNow(tx, p, n)
		if err != nil {
			return s, err
		}
		switch n.State {
		case NodePlanned, NodeApplying, NodeChecking:
			if stale {
				s.StaleNow++
			} else {
				s.Making++
			}
		case NodeReady:
			s.Ready++
			if stale {
				s.StaleNow++
			} else {
				s.ReadyNew++
			}
		case NodeReserved, NodeContextualizing, NodeDeployed, NodeLost:
			if stale {
				s.StaleOut++
			}
		case NodeReleasing, NodeDestroying, NodeFailed, NodeHeld, NodeGone:
		}
	}
	return s, nil
}

// staleNow tells whether a node is to be replaced: it is made from something else
// than its pool now, or runs on none of the hosts that it draws from.
func staleNow(tx ReadTx, p Pool, n Node) (bool, error) {
	if !p.Current(n) {
		return true, nil
	}
	if n.Host == nil || n.Host.Inventory != p.Inventory.Name {
		return p.Misplaced(n, nil), nil
	}
	h, err := tx.Host(n.Host.ID)
	if CodeOf(err) == CodeNotFound {
		return false, nil
	}
	return p.Misplaced(n, &h), err
}

// OrderRollout pauses, resumes, hurries or aborts the rollout of a pool, also
// before it has begun. Errors: CodeForbidden unless actor is an admin;
// CodeNotFound; CodeConflict if there is nothing to replace, or nothing to resume.
func (b *Broker) OrderRollout(ctx context.Context, actor Tenant, pool string, order RolloutOrder, reason string) (s RolloutStatus, err error) {
	if !actor.IsAdmin {
		return s, errAdminsOnly("change a rollout")
	}
	p, ok := b.cfg.Pools.Get(pool)
	if !ok {
		return s, Errorf(CodeNotFound, "can't find pool '%s'", pool)
	}
	if !slices.Contains(RolloutOrders(), order) {
		return s, Errorf(CodeInvalid, "a rollout can't %q", order).WithHint("one of pause, resume, now, abort")
	}
	now := b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		nodes, err := tx.Nodes(NodeQuery{Pool: pool, States: LiveNodeStates()})
		if err != nil {
			return err
		}
		if s, err = rolloutStatus(tx, b.effective(p, now), nodes); err != nil {
			return err
		}
		if s.Finished() {
			return Errorf(CodeConflict, "pool '%s' has no stale nodes to replace", pool).
				WithHint("`duffy-broker rollout status` shows the pools that have; a change of pools.hcl counts after `duffy-broker reload`")
		}
		r := s.Rollout
		if r.State == "" || r.State == RolloutDone {
			r = Rollout{Pool: pool, Generation: p.Generation(), State: RolloutRunning, Stale: s.StaleNow, StartedAt: now}
		}
		by := strings.TrimSuffix("by "+actor.Name+": "+reason, ": ")
		switch order {
		case RolloutPause:
			r.State, r.Reason = RolloutPaused, by
		case RolloutAbort:
			r.State, r.Reason, r.Now = RolloutAborted, by, false
		case RolloutResume:
			if r.State == RolloutRunning && !r.Now {
				return Errorf(CodeConflict, "the rollout of pool '%s' is not paused", pool).
					WithHint("it goes on by itself: `duffy-broker rollout status %s --wait` shows it, `rollout now` hurries it", pool)
			}
			r.State, r.Reason, r.Now = RolloutRunning, "", false
		case RolloutNow:
			r.State, r.Reason, r.Now = RolloutRunning, "", true
		}
		if r.State == RolloutRunning {
			// Its admin takes the cause of the failures for mended: see at once.
			if err := tx.SetPoolHealth(PoolHealth{Pool: pool}); err != nil {
				return err
			}
		}
		from := s.State
		s.Rollout = r
		return SetRollout(tx, from, &s.Rollout, now, string(order)+" "+by)
	})
	if err == nil {
		b.cfg.Wake()
	}
	return s, err
}

// SetRollout stores a rollout that comes from a state, and writes the event.
func SetRollout(tx Tx, from RolloutState, r *Rollout, now time.Time, message string) error {
	if from != r.State {
		r.ChangedAt = now
	}
	if err := tx.SetRollout(*r); err != nil {
		return err
	}
	return tx.AppendEvent(&Event{
		At: now, Kind: EventRollout, Pool: r.Pool, From: string(from), To: string(r.State), Message: message,
	})
}

// Lendable tells whether a node in stock may be lent: not one that will be
// interrupted, nor a stale one, where the pool says so.
func (p Pool) Lendable(n Node) bool {
	return n.Interruption == nil && (!p.Rollout.NoStale || p.Current(n))
}

// lendable gives the nodes of a pool that may be lent, the oldest first: most, or
// all with 0.
func lendable(tx ReadTx, p Pool, name string, most int, now time.Time) ([]Node, error) {
	q := NodeQuery{Pool: name, States: []NodeState{NodeReady}, Limit: most}
	if p.picky() {
		q.Limit = 0
	}
	nodes, err := tx.Nodes(q)
	nodes = slices.DeleteFunc(nodes, func(n Node) bool { return !p.Lendable(n) || p.Expired(n, now) })
	return nodes, err
}

// picky tells whether a node in stock may be one that is not lent.
func (p Pool) picky() bool { return p.Rollout.NoStale || p.MaxAge > 0 }
