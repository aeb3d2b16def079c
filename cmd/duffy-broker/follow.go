package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// followTick is how often the follower looks for pools that have come.
	followTick = 5 * time.Second
	// followPause is the pause after the first lookup of a pool that fails. It
	// doubles with each, up to the pool's own interval.
	followPause = time.Minute
)

// outputReader gives the values of the outputs that pools follow.
type outputReader interface {
	FollowBase(broker.Pool) (string, error)
	LookUp(context.Context, broker.Pool) (map[string]string, error)
	FollowedSource(broker.Pool) (broker.Source, error)
}

// follower looks up the outputs that pools follow when they are due, one pool after
// the other. A new value changes the pool's generation: the rest is a rollout. A
// lookup that fails changes nothing.
type follower struct {
	pools  *broker.PoolSet
	reader outputReader
	// reading keeps reloads out while a pool is changed, and change planning.
	reading sync.Locker
	change  func(func() error) error
	note    func(ctx context.Context, old, next broker.Followed) error
	problem func(ctx context.Context, pool, problem string) error
	// changed is called after pools have other values.
	changed func(context.Context)
	log     *slog.Logger
	now     func() time.Time

	failures map[string]followFailure // by pool and variant
}

// wayName names a pool, or a pool as one of its variants makes nodes.
func wayName(p broker.Pool) string {
	if len(p.Variants) == 1 {
		return p.Name + " " + p.Variants[0].Name
	}
	return p.Name
}

// followFailure says that lookups of a pool, or of one of its variants, fail.
type followFailure struct {
	base  string // another one starts afresh
	pause time.Duration
	until time.Time
}

// newFollower gives the follower of a daemon that has all it needs.
func (d *daemon) newFollower() *follower {
	return &follower{
		pools: d.pools, reader: d.engine, reading: &d.reloader.mu, change: d.loop.Change,
		note: d.broker.NoteFollowed, problem: d.broker.NoteFollowProblem,
		changed: func(ctx context.Context) {
			d.noteRunning(ctx)
			d.loop.Wake()
		},
		log: d.log, now: time.Now,
	}
}

// run looks up until ctx ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := followTick
		if p, base, due, ok := f.next(); ok {
			if wait = min(wait, due.Sub(f.now())); wait <= 0 {
				f.lookUp(ctx, p, base)
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// next gives the pool, as one of its variants if it has some, whose lookup is due
// first, and the generation that it has without what it follows.
func (f *follower) next() (first broker.Pool, base string, due time.Time, ok bool) {
	known := make(map[string]followFailure)
	for _, p := range f.pools.All() {
		if len(p.Follow.Outputs) == 0 {
			continue
		}
		for _, way := range p.Ways() {
			own, err := f.reader.FollowBase(way)
			if err != nil {
				continue // it was accepted: its variables are fine
			}
			at := p.Followed.NextLookup(p.Follow, own)
			if failure, failed := f.failures[wayName(way)]; failed && failure.base == own {
				known[wayName(way)] = failure
				at = failure.until
			}
			if !ok || at.Before(due) {
				first, base, due, ok = way, own, at, true
			}
		}
	}
	f.failures = known
	return first, base, due, ok
}

// lookUp looks up what one pool follows, or one of its variants.
func (f *follower) lookUp(ctx context.Context, p broker.Pool, base string) {
	values, err := f.reader.LookUp(ctx, p)
	if err == nil {
		err = f.apply(ctx, p, base, values)
	}
	if ctx.Err() != nil { // the broker stops
		return
	}
	name := wayName(p)
	failure, again := f.failures[name]
	if err == nil {
		delete(f.failures, name)
		return
	}
	if name != p.Name {
		err = fmt.Errorf("variant %s: %w", p.Variants[0].Name, err)
	}
	failure.base, failure.pause = base, max(followPause, min(2*failure.pause, p.Follow.Every))
	failure.until = f.now().Add(failure.pause)
	f.failures[name] = failure
	f.log.WarnContext(ctx, "outputs that a pool follows can't be looked up: the last values stay", "pool", p.Name, "again_in", failure.pause, "error", err)
	if again { // one event for all of a row
		return
	}
	if err := f.problem(ctx, p.Name, err.Error()); err != nil {
		f.log.WarnContext(ctx, "the event of a lookup can't be written", "pool", p.Name, "error", err)
	}
}

// apply makes values those of a pool, unless it has changed since they were looked
// up.
func (f *follower) apply(ctx context.Context, asked broker.Pool, base string, values map[string]string) error {
	f.reading.Lock()
	defer f.reading.Unlock()
	pools, accounts := f.pools.File()
	i := slices.IndexFunc(pools, func(p broker.Pool) bool { return p.Name == asked.Name })
	if i < 0 || !slices.Equal(pools[i].Follow.Outputs, asked.Follow.Outputs) {
		return nil
	}
	p := &pools[i]
	old := p.Followed
	old.Pool = p.Name
	seen, bases := old.See(base, values, f.now()), []string{}
	there := false
	for _, way := range p.Ways() {
		own, err := f.reader.FollowBase(way)
		if err != nil {
			return err
		}
		bases = append(bases, own)
		if own == base && !there {
			there = true
			if wayName(way) != p.Name {
				seen.Variant = way.Variants[0].Name
			}
		}
	}
	if !there {
		return nil
	}
	p.Followed = old.With(seen, bases)
	changed, err := withSources(*p, f.reader.FollowedSource)
	if err != nil {
		return err
	}
	*p = changed
	err = f.change(func() error {
		if err := f.note(ctx, old, p.Followed); err != nil {
			return err
		}
		f.pools.Set(pools, accounts...)
		return nil
	})
	if err != nil {
		return err
	}
	if from, to := broker.FollowChange(old, p.Followed); to != "" {
		f.log.InfoContext(ctx, "outputs that a pool follows have changed: its stock is replaced", "pool", p.Name, "old", from, "new", to, "generation", p.Generation())
	} else if old.Of(base).Base != base {
		f.log.InfoContext(ctx, "outputs that a pool follows are known", "pool", p.Name, "variant", seen.Variant, "values", seen.Values)
	}
	f.changed(ctx)
	return nil
}
