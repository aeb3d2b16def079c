package broker

import "time"

// Outlook tells what the planner makes of a pool, now and later.
type Outlook interface {
	// Effective gives the numbers of nodes that a pool keeps at a time.
	Effective(p Pool, at time.Time) Effective
	// Changes gives the next n changes of them after a time; fewer where nothing
	// changes for long.
	Changes(p Pool, after time.Time, n int) []ScheduleChange
	// NextTry gives until when a pool rests after creates that failed; zero if it
	// does not.
	NextTry(h PoolHealth) time.Time
}

// plain is the outlook of those who have none.
type plain struct{}

func (plain) Effective(p Pool, _ time.Time) Effective {
	return Effective{FillLevel: p.FillLevel, MaxNodes: p.MaxNodes}
}
func (plain) Changes(Pool, time.Time, int) []ScheduleChange { return nil }
func (plain) NextTry(PoolHealth) time.Time                  { return time.Time{} }

// effective gives a pool with the numbers of nodes that hold at a time.
func (b *Broker) effective(p Pool, now time.Time) Pool {
	e := b.cfg.Outlook.Effective(p, now)
	p.FillLevel, p.MaxNodes = e.FillLevel, e.MaxNodes
	return p
}
