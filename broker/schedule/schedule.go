package schedule

import (
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Effective is how many nodes a pool keeps at a time.
type Effective = broker.Effective

// Change is a time from which on other numbers hold.
type Change = broker.ScheduleChange

// Base gives what a pool keeps where no window is open.
func Base(p broker.Pool) Effective {
	return Effective{FillLevel: p.FillLevel, MaxNodes: p.MaxNodes}
}

// At gives what holds at t. It holds until next at least, when a window opens or
// closes; zero is for ever. A window that [Check] refuses is never open.
func At(windows []broker.Window, base Effective, t time.Time) (now Effective, next time.Time) {
	now = base
	for _, definition := range windows {
		w, err := parse(definition)
		if err != nil {
			continue
		}
		open, until := w.state(t)
		if open {
			now = Effective{FillLevel: definition.FillLevel, MaxNodes: definition.MaxNodes, Window: definition.Name}
		}
		if next.IsZero() || !until.IsZero() && until.Before(next) {
			next = until
		}
	}
	return now, next
}

// maxLook is how many openings and closings are looked at for changes.
const maxLook = 1000

// Changes gives the next n changes after a time, the first one first; fewer where
// nothing changes for long.
func Changes(windows []broker.Window, base Effective, after time.Time, n int) []Change {
	var changes []Change
	now, next := At(windows, base, after)
	for looked := 0; len(changes) < n && !next.IsZero() && looked < maxLook; looked++ {
		t := next
		var then Effective
		then, next = At(windows, base, t)
		if then != now {
			changes = append(changes, Change{At: t, Effective: then})
		}
		now = then
	}
	return changes
}

// Pool gives a pool with the numbers of nodes that hold at t, and until when they
// hold at least; zero is for ever. It has no Schedule any more.
func Pool(p broker.Pool, t time.Time) (now broker.Pool, next time.Time) {
	if len(p.Schedule) == 0 {
		return p, time.Time{}
	}
	levels, next := At(p.Schedule, Base(p), t)
	p.FillLevel, p.MaxNodes, p.Schedule = levels.FillLevel, levels.MaxNodes, nil
	return p, next
}
