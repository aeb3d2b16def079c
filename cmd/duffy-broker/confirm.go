package main

import (
	"context"
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/plan"
)

// checkDestroys refuses pools that would destroy much of the stock, unless confirm
// is the id of the very plan. What counts as much the running file says: the new
// one may be the mistake.
func (d *daemon) checkDestroys(ctx context.Context, file *config.File, confirm string) error {
	rules := *d.reloadRules.Load()
	if confirm == "" && rules.ConfirmAbove >= 1 {
		return nil
	}
	s, err := d.broker.Snapshot(ctx, broker.Tenant{Name: "reload", IsAdmin: true})
	if err != nil {
		return err
	}
	after, err := configOf(file, s.MaskKey, file.Root, func(p broker.Pool) broker.Pool {
		p.Followed = broker.FollowedIn(s.Pools, file.Moves, p.Name)
		return broker.Rebased(p, file.Root, s.Root)
	})
	if err != nil {
		return broker.Errorf(broker.CodeInvalid, "%s", err).WithHint("%s", hintOf(err))
	}
	w := plan.World(s, true)
	if err := after.Declare(s.At, w, file.Inventories); err != nil {
		return err
	}
	p := plan.Compute(s.At, plan.Running(s), after, w, plan.Options{MaskKey: s.MaskKey})
	if confirm != "" && confirm != p.ID {
		return broker.Errorf(broker.CodeConflict, "the plan %s that was confirmed is not what would be done: that is plan %s", confirm, p.ID).
			WithHint("something has changed since it was made: look at a new one with duffy-broker plan --server, and confirm that")
	}
	stock := 0
	for _, n := range s.Nodes {
		switch n.State { //nolint:exhaustive // the others are no stock
		case broker.NodePlanned, broker.NodeApplying, broker.NodeChecking, broker.NodeReady:
			stock++
		}
	}
	lost := p.Summary.StockDestroyed
	if confirm != "" || lost < rules.ConfirmFrom || float64(lost) <= rules.ConfirmAbove*float64(stock) {
		return nil
	}
	return broker.Errorf(broker.CodeConflict, "the new pools would destroy %d of %s in stock, also where others take their place: plan %s", lost, count(stock, "node"), p.ID).
		WithHint("look at it with duffy-broker plan --server, then %s", fmt.Sprintf("duffy-broker reload --confirm %s", p.ID))
}
