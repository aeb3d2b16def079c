package reconcile

import (
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// Outlook is what [Plan] makes of a pool, for those who ask.
type Outlook struct{}

var _ broker.Outlook = Outlook{}

// Effective gives the numbers of nodes that a pool keeps at a time.
func (Outlook) Effective(p broker.Pool, at time.Time) broker.Effective {
	now, _ := schedule.At(p.Schedule, schedule.Base(p), at)
	return now
}

// Changes gives the next n changes of these numbers.
func (Outlook) Changes(p broker.Pool, after time.Time, n int) []broker.ScheduleChange {
	return schedule.Changes(p.Schedule, schedule.Base(p), after, n)
}

// NextTry gives until when a pool rests after creates that failed; zero if it does
// not.
func (Outlook) NextTry(h broker.PoolHealth) time.Time {
	pause := BreakerPause(trials(h))
	if pause == 0 {
		return time.Time{}
	}
	return h.LastFailure.Add(pause)
}
