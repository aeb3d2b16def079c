package reconcile

import (
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Pass says how a pass of a [Loop] went.
type Pass struct {
	Took time.Duration
	Err  error // the store's
	// Creates and Destroys are the Terraform runs that are due and could not be
	// started, by pool: all that may run at once do, or an account has no token.
	Creates, Destroys map[string]int
	// Wrong are the records of the loop's copy of the store that were not as in the
	// store. There never are any, but for defects.
	Wrong int
}

// backlog are the runs that a plan has left for later, by pool.
type backlog struct{ creates, destroys map[string]int }

// backlog gives what is left of the claims.
func (p *planner) backlog() backlog {
	w := backlog{creates: make(map[string]int), destroys: make(map[string]int)}
	for _, e := range p.claimants {
		if n := e.demand + e.restock + e.rollout; n > 0 {
			w.creates[e.Name] = n
		}
		if n := len(e.urgent) + len(e.destroys); n > 0 {
			w.destroys[e.Name] = n
		}
	}
	return w
}

// over notes that a pass is over.
func (l *Loop) over(took time.Duration, err error) {
	if err == nil {
		now := l.cfg.Now()
		l.mu.Lock()
		l.passed = now
		l.mu.Unlock()
	}
	l.cfg.ObservePass(Pass{Took: took, Err: err, Creates: l.backlog.creates, Destroys: l.backlog.destroys, Wrong: l.wrong})
}

// staleTicks is after how many ticks without a pass a loop counts as stuck.
const staleTicks = 4

// Ready tells whether the loop does its work: nil, or CodeUnavailable before its
// first pass and when none has succeeded for two minutes.
func (l *Loop) Ready(now time.Time) error {
	l.mu.Lock()
	passed := l.passed
	l.mu.Unlock()
	switch {
	case passed.IsZero():
		return broker.Errorf(broker.CodeUnavailable, "the broker has not looked at its nodes yet").WithHint("try again in a moment")
	case now.Sub(passed) > staleTicks*tick:
		return broker.Errorf(broker.CodeUnavailable, "the broker has not looked at its nodes for more than %s", staleTicks*tick).
			WithHint("the broker's log says why")
	}
	return nil
}

// BreakerOpen tells whether a pool is tried with one node at a time, and with
// pauses, since its creates fail one after the other.
func BreakerOpen(p broker.Pool, h broker.PoolHealth) bool {
	return h.Generation == p.Generation() && trials(h) >= breakerThreshold
}

// The results of sweeps.
const (
	SweepOK         = "ok"
	SweepFailed     = "failed"     // the listing, or the store
	SweepDistrusted = "distrusted" // nothing follows from the listing
)

// SweepSeen says how a sweep of a pool went.
type SweepSeen struct {
	Pool, Result string
	Leaked       int // nodes taken over to be destroyed
	Vanished     int // nodes given up
	Unresolved   int // things that somebody must remove by hand
}

func seenBy(pool string, plan SweepPlan, done []broker.Node) SweepSeen {
	return SweepSeen{
		Pool: pool, Result: SweepOK, Leaked: len(plan.Leaks), Vanished: len(done) - len(plan.Leaks),
		Unresolved: len(plan.Malformed) + len(plan.Bare),
	}
}
