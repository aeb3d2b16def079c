package main

import (
	"context"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
)

// poolChanges pairs the pools that run with those of a file, which may have moved
// them. Stock is that of the former, by name.
func poolChanges(old, pools []broker.Pool, moves []broker.Move, stock map[string]config.Stock) []config.PoolChange {
	known := make(map[string]*broker.Pool, len(old)) // by the name that they have now
	for i := range old {
		known[broker.MovedName(moves, old[i].Name)] = &old[i]
	}
	changes := make([]config.PoolChange, 0, len(pools))
	for i := range pools {
		change := config.PoolChange{Old: known[pools[i].Name], New: &pools[i]}
		if change.Old != nil {
			change.Stock = stock[change.Old.Name]
			delete(known, pools[i].Name)
		}
		changes = append(changes, change)
	}
	for i := range old {
		if known[broker.MovedName(moves, old[i].Name)] == &old[i] {
			changes = append(changes, config.PoolChange{Old: &old[i], Stock: stock[old[i].Name]})
		}
	}
	return changes
}

// checkPolicy asks the policy of a file about the change to its pools.
func (d *daemon) checkPolicy(ctx context.Context, file *config.File, pools []broker.Pool) error {
	if len(file.Policy) == 0 {
		return nil
	}
	old := d.pools.All()
	stock := make(map[string]config.Stock, len(old))
	for _, p := range old {
		_, l, err := d.broker.Pool(ctx, p.Name)
		if err != nil {
			return err
		}
		stock[p.Name] = config.Stock{
			Ready: l.Ready, Lent: l.Contextualizing + l.Deployed, Total: l.Provisioning + l.Ready + l.Contextualizing + l.Deployed + l.Deprovisioning,
		}
	}
	var denials []string
	for _, o := range file.CheckPolicy(poolChanges(old, pools, file.Moves, stock), old, pools) {
		if !o.Deny {
			d.log.WarnContext(ctx, "the policy warns of the new pools", "rule", o.Rule, "pool", o.Pool, "message", o.Message)
			continue
		}
		denials = append(denials, "policy "+o.Rule+": "+o.Message)
	}
	if len(denials) == 0 {
		return nil
	}
	return broker.Errorf(broker.CodeInvalid, "the policy forbids the new pools: %s", strings.Join(denials, "; ")).
		WithHint("change the pools, or the policy block that forbids it")
}
