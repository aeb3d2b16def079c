package memory

import (
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Events implements [broker.ReadTx].
func (t *tx) Events(after int64, limit int) ([]broker.Event, error) {
	start, _ := slices.BinarySearchFunc(t.events, after, func(e broker.Event, after int64) int {
		if e.Seq <= after {
			return -1
		}
		return 1
	})
	tail := t.events[start:]
	return clone(tail[:min(max(0, limit), len(tail))])
}

// AppendEvent implements [broker.Tx].
func (t *tx) AppendEvent(e *broker.Event) error {
	stored, err := clone(*e)
	if err != nil {
		return err
	}
	stored.Seq = t.lastEvent + 1
	set(t, &t.lastEvent, stored.Seq)
	set(t, &t.events, append(t.events, stored))
	e.Seq = stored.Seq
	return nil
}

// PruneEvents implements [broker.Tx].
func (t *tx) PruneEvents(before time.Time) (int, error) {
	var kept []broker.Event // a new slice: the old one may come back
	for _, e := range t.events {
		if !e.At.Before(before) {
			kept = append(kept, e)
		}
	}
	pruned := len(t.events) - len(kept)
	set(t, &t.events, kept)
	return pruned, nil
}

// SessionEvents implements [broker.ReadTx].
func (t *tx) SessionEvents(sessionID, after int64, limit int) ([]broker.Event, error) {
	var found []broker.Event
	for _, e := range t.events {
		if e.SessionID == sessionID && sessionID != 0 && e.Seq > after && len(found) < limit {
			found = append(found, e)
		}
	}
	return clone(found)
}

// LastEvent implements [broker.ReadTx].
func (t *tx) LastEvent() (int64, error) { return t.lastEvent, nil }
