package broker

import (
	"context"
	"time"
)

// PoolStatus is how a pool does.
type PoolStatus struct {
	Pool   Pool // as it is defined: what holds now is in Now
	Now    Effective
	Levels PoolLevels
	Arch   string // that its nodes say they have; "" if none does

	// The rest is for admins only, and zero for others.

	Operator bool // whether it is there
	Failed   int  // nodes that are to be destroyed after a failure
	Held     int  // nodes that are kept for a person
	Stale    int  // nodes in stock, or on their way there, of an older generation
	Expired  int  // nodes in stock that are too old to be lent
	Creates  int  // Terraform runs that make nodes, or are about to
	Destroys int  // those that destroy them
	Unmet    int  // nodes that requests wait for
	// OldestReady is when the oldest node that can be lent was begun; zero without
	// one.
	OldestReady time.Time
	Health      PoolHealth // of the pool's generation
	NextTry     time.Time  // until then it makes no node: creates failed, or no variant has capacity
	Changes     []ScheduleChange
	Hosts       *PoolHosts      // that it draws from; nil if it draws from none
	Rollout     RolloutState    // "" without one
	Variants    []VariantStatus // in the order of the file
}

// statusChanges is how many changes of the schedule a status tells.
const statusChanges = 5

// PoolStatus tells how a pool does; more of it to admins. Errors: CodeNotFound.
func (b *Broker) PoolStatus(ctx context.Context, actor Tenant, name string) (s PoolStatus, err error) {
	p, ok := b.cfg.Pools.Get(name)
	if !ok {
		return PoolStatus{}, Errorf(CodeNotFound, "there is no pool '%s'", name)
	}
	now := b.cfg.Now()
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		s = PoolStatus{Pool: p, Now: b.cfg.Outlook.Effective(p, now)}
		nodes, err := tx.Nodes(NodeQuery{Pool: name, States: LiveNodeStates()})
		if err != nil {
			return err
		}
		counts := make(map[NodeState]int)
		for _, n := range nodes {
			s.count(n, now, counts)
		}
		s.Levels = levelsOf(counts)
		if !actor.IsAdmin {
			s = PoolStatus{Pool: p, Now: s.Now, Levels: s.Levels, Arch: s.Arch}
			return nil
		}
		s.Operator = true
		s.Failed, s.Held = counts[NodeFailed]+counts[NodeLost], counts[NodeHeld]
		s.Creates = counts[NodeApplying]
		s.Unmet = b.Unmet(now)[name]
		s.Changes = b.cfg.Outlook.Changes(p, now, statusChanges)
		rollout, err := rolloutStatus(tx, p, nodes)
		if err != nil {
			return err
		}
		s.Stale, s.Rollout = rollout.StaleNow, rollout.State
		if s.Hosts, err = poolHosts(tx, p); err != nil {
			return err
		}
		if s.Health, err = tx.PoolHealth(name); err != nil {
			return err
		}
		if s.Health.Generation != p.Generation() {
			s.Health = PoolHealth{Pool: name}
		}
		if next := b.cfg.Outlook.NextTry(s.Health); next.After(now) {
			s.NextTry = next
		}
		if next := p.Cools(s.Health, now); next.After(s.NextTry) {
			s.NextTry = next
		}
		s.countVariants(nodes, now)
		return nil
	})
	return s, err
}

// count takes a node into account.
func (s *PoolStatus) count(n Node, now time.Time, counts map[NodeState]int) {
	if arch := n.Arch(); arch != "" {
		s.Arch = arch
	}
	switch n.State {
	case NodeReady:
		if s.Pool.Expired(n, now) {
			s.Expired++
			return
		}
		if !s.Pool.Lendable(n) {
			return
		}
		if s.OldestReady.IsZero() || n.CreatedAt.Before(s.OldestReady) {
			s.OldestReady = n.CreatedAt
		}
	case NodeDestroying:
		if !n.RetryAt.After(now) {
			s.Destroys++
		}
	case NodePlanned, NodeApplying, NodeChecking, NodeReserved, NodeContextualizing, NodeDeployed, NodeLost, NodeReleasing, NodeFailed, NodeHeld, NodeGone:
	}
	counts[n.State]++
}
