package broker

import (
	"context"
	"fmt"
)

// Move renames a pool: what belonged to From belongs to To.
type Move struct {
	From, To string
}

// MovedName gives the name that a pool has after moves, none of which leads to a
// name that another one renames.
func MovedName(moves []Move, name string) string {
	for _, m := range moves {
		if m.From == name {
			return m.To
		}
	}
	return name
}

// MovePools gives the nodes of renamed pools, in every state, their rollouts, and
// what is remembered of their failures and of the outputs that they follow, to the pools' new names: all or nothing. Sessions
// keep the names that they were given. It may be called again: a name that nothing
// belongs to is passed over. An event tells of each move that moved something.
//
// Nobody may plan meanwhile, or between it and the change of the pools: see
// [github.com/duffy-broker/duffy-broker/broker/reconcile.Loop.Change].
func (b *Broker) MovePools(ctx context.Context, moves []Move) error {
	now := b.cfg.Now()
	pending, err := b.pending(ctx, moves)
	if err != nil || len(pending) == 0 {
		return err
	}
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		for _, m := range pending {
			nodes, err := tx.Nodes(NodeQuery{Pool: m.From})
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if err := tx.SetNodePool(n.ID, m.To); err != nil {
					return err
				}
			}
			if err := moveHealth(tx, m); err != nil {
				return err
			}
			if err := moveRollout(tx, m); err != nil {
				return err
			}
			if err := moveFollowed(tx, m); err != nil {
				return err
			}
			message := fmt.Sprintf("renamed from %q, with %d nodes", m.From, len(nodes))
			if err := tx.AppendEvent(&Event{At: now, Kind: EventPool, Pool: m.To, From: m.From, To: m.To, Message: message}); err != nil {
				return err
			}
		}
		return nil
	})
}

// pending gives the moves that have something to move: a file keeps its moves for
// long, and a reload that changes nothing writes nothing.
func (b *Broker) pending(ctx context.Context, moves []Move) (pending []Move, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		pending = nil
		for _, m := range moves {
			nodes, err := tx.Nodes(NodeQuery{Pool: m.From, Limit: 1})
			if err != nil {
				return err
			}
			health, err := tx.PoolHealth(m.From)
			if err != nil {
				return err
			}
			rollout, err := tx.Rollout(m.From)
			if err != nil {
				return err
			}
			followed, err := tx.Followed(m.From)
			if err != nil {
				return err
			}
			if len(nodes) > 0 || !health.Well() || rollout.State != "" || followed.Base != "" {
				pending = append(pending, m)
			}
		}
		return nil
	})
	return pending, err
}

// moveHealth takes along what is known of a pool's failures, unless the new name
// has failures of its own.
func moveHealth(tx Tx, m Move) error {
	old, err := tx.PoolHealth(m.From)
	if err != nil || old.Well() {
		return err
	}
	if err := tx.SetPoolHealth(PoolHealth{Pool: m.From}); err != nil {
		return err
	}
	own, err := tx.PoolHealth(m.To)
	if err != nil || !own.Well() {
		return err
	}
	old.Pool = m.To
	return tx.SetPoolHealth(old)
}

// moveRollout takes along the pool's rollout, unless the new name has one.
func moveRollout(tx Tx, m Move) error {
	old, err := tx.Rollout(m.From)
	if err != nil || old.State == "" {
		return err
	}
	if err := tx.SetRollout(Rollout{Pool: m.From}); err != nil {
		return err
	}
	own, err := tx.Rollout(m.To)
	if err != nil || own.State != "" {
		return err
	}
	old.Pool = m.To
	return tx.SetRollout(old)
}
