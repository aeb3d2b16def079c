package reconcile

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// makes notes a node that is on its way into stock, for [planner.room].
func (entry *pool) makes(generation string) {
	if len(entry.Variants) == 0 {
		return
	}
	if entry.making == nil {
		entry.making = make(map[string]int)
	}
	entry.making[generation]++
}

// free tells whether a node may be made from a variant now, and since when it may
// not if that is a matter of time. One that had no capacity gets one node at a
// time after its cooldown, until that is made: others need not wait for it.
func (p *planner) free(entry *pool, v broker.Variant) (free, limited bool, cools time.Time) {
	cools = v.Cools(p.health(entry))
	switch {
	case cools.IsZero():
		return true, false, time.Time{}
	case cools.After(p.now):
		return false, true, cools
	}
	return entry.making[v.Source.Generation] == 0, true, time.Time{}
}

// room gives how many nodes the variants of a pool allow to be begun now. When
// that is not without a limit, it notes when another one is free.
func (p *planner) room(entry *pool) int {
	if len(entry.Variants) == 0 {
		return math.MaxInt
	}
	room := 0
	var cooling []time.Time
	for _, v := range entry.Variants {
		free, limited, cools := p.free(entry, v)
		switch {
		case free && !limited:
			return math.MaxInt
		case free:
			room++
		case !cools.IsZero():
			cooling = append(cooling, cools)
		}
	}
	for _, cools := range cooling {
		p.at(cools)
	}
	return room
}

// variant chooses what the next node of a pool is made from, and says so; "" where
// the pool has no variants.
func (p *planner) variant(entry *pool) (name, reason string) {
	var passed []string
	for _, v := range entry.Variants {
		if free, _, _ := p.free(entry, v); free {
			entry.makes(v.Source.Generation)
			reason = "variant " + v.Name
			if len(passed) > 0 {
				reason += ", since " + strings.Join(passed, ", ")
			}
			return v.Name, reason
		}
		passed = append(passed, fmt.Sprintf("%s had %s", v.Name, p.health(entry).Variants[v.Name].Class))
	}
	return "", ""
}

// healthOf gives what is remembered of what a pool is made from now, as a record
// that may be changed. Variants that it does not have any more are forgotten.
func healthOf(p broker.Pool, h broker.PoolHealth) broker.PoolHealth {
	if h.Generation != p.Generation() {
		return broker.PoolHealth{Pool: p.Name, Generation: p.Generation()}
	}
	var known map[string]broker.VariantHealth
	for _, v := range p.Variants {
		if failure, ok := h.Variants[v.Name]; ok {
			if known == nil {
				known = make(map[string]broker.VariantHealth)
			}
			known[v.Name] = failure
		}
	}
	h.Variants = known
	return h
}

// failed adds the failure of a node to its pool's health. A variant without
// capacity cools down instead, as long as another one is free.
func failed(p broker.Pool, h broker.PoolHealth, n broker.Node, at time.Time) broker.PoolHealth {
	h = healthOf(p, h)
	if v, ok := p.VariantOf(n); ok && n.FailureClass.Elsewhere() {
		if h.Variants == nil {
			h.Variants = make(map[string]broker.VariantHealth)
		}
		h.Variants[v.Name] = broker.VariantHealth{FailedAt: at, Class: n.FailureClass, Message: n.Failure}
		if p.Cools(h, at).IsZero() {
			return h
		}
	}
	h.Failures++
	h.LastFailure, h.Message, h.Class = at, n.Failure, n.FailureClass
	return h
}

// succeeded takes a node that is ready into its pool's health: there are no
// failures in a row any more, and its variant has capacity, unless it was begun
// before that failed.
func succeeded(p broker.Pool, h broker.PoolHealth, n broker.Node) broker.PoolHealth {
	h = healthOf(p, h)
	v, _ := p.VariantOf(n)
	maps.DeleteFunc(h.Variants, func(name string, failure broker.VariantHealth) bool {
		return name == v.Name && !n.CreatedAt.Before(failure.FailedAt)
	})
	return broker.PoolHealth{Pool: h.Pool, Generation: h.Generation, Variants: h.Variants}
}

// warnCooling says that the variant of a node cools down, or all of its pool do.
func (l *Loop) warnCooling(ctx context.Context, n broker.Node, h broker.PoolHealth) {
	p, ok := l.cfg.Pools.Get(n.Pool)
	if !ok || !n.FailureClass.Elsewhere() {
		return
	}
	v, ok := p.VariantOf(n)
	if !ok {
		return
	}
	if next := p.Cools(h, l.cfg.Now()); !next.IsZero() {
		l.cfg.Log.WarnContext(ctx, "pool rests: all of its variants cool down", "pool", n.Pool, "class", string(n.FailureClass), "next_try", next)
		return
	}
	l.cfg.Log.WarnContext(ctx, "variant cools down: the next one is taken", "pool", n.Pool, "variant", v.Name, "class", string(n.FailureClass), "until", v.Cools(h))
}
