package storetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func events(after int64, limit int) func(broker.ReadTx) ([]broker.Event, error) {
	return func(tx broker.ReadTx) ([]broker.Event, error) { return tx.Events(after, limit) }
}

// appendEvents stores one event for each time.
func appendEvents(t *testing.T, store broker.Store, times ...time.Time) (list []broker.Event) {
	t.Helper()
	update(t, store, func(tx broker.Tx) error {
		list = nil
		for _, at := range times {
			e := broker.Event{At: at, Kind: broker.EventNode, Message: at.String()}
			if err := tx.AppendEvent(&e); err != nil {
				return err
			}
			list = append(list, e)
		}
		return nil
	})
	return list
}

func prune(t *testing.T, store broker.Store, before time.Time) (n int) {
	t.Helper()
	update(t, store, func(tx broker.Tx) (err error) {
		n, err = tx.PruneEvents(before)
		return err
	})
	return n
}

func (s *suite) testEvents(t *testing.T) {
	t.Run("every field comes back", func(t *testing.T) {
		store := s.store(t)
		var e broker.Event
		fill(&e)
		update(t, store, func(tx broker.Tx) error { return tx.AppendEvent(&e) })
		if e.Seq != 1 {
			t.Errorf("got sequence number %d, want 1", e.Seq)
		}
		same(t, "events", read(t, store, events(0, 10)), []broker.Event{e})
	})
	t.Run("ranges", func(t *testing.T) {
		store := s.store(t)
		all := appendEvents(t, store, start(), start(), start(), start(), start())
		for i, e := range all {
			if e.Seq != int64(i+1) {
				t.Errorf("got sequence number %d, want %d", e.Seq, i+1)
			}
		}
		for _, tt := range []struct {
			after    int64
			limit    int
			from, to int // of all
		}{
			{0, 100, 0, 5},
			{-1, 100, 0, 5},
			{math.MinInt64, 100, 0, 5},
			{0, 2, 0, 2},
			{2, 2, 2, 4},
			{4, 2, 4, 5},
			{5, 2, 5, 5},
			{math.MaxInt64, 2, 5, 5},
			{0, 0, 0, 0},
			{0, -1, 0, 0},
		} {
			same(t, fmt.Sprintf("events after %d, at most %d", tt.after, tt.limit), read(t, store, events(tt.after, tt.limit)), all[tt.from:tt.to])
		}
	})
	t.Run("of a session", func(t *testing.T) {
		store := s.store(t)
		sessions := []int64{1, 0, 256, 1, 2, 1}
		var all []broker.Event
		update(t, store, func(tx broker.Tx) error {
			all = nil
			for i, id := range sessions {
				e := broker.Event{At: start().Add(time.Duration(i)), SessionID: id}
				if err := tx.AppendEvent(&e); err != nil {
					return err
				}
				all = append(all, e)
			}
			return nil
		})
		if got := read(t, store, broker.ReadTx.LastEvent); got != 6 {
			t.Errorf("last event %d, want 6", got)
		}
		check := func(session, after int64, limit int, want ...broker.Event) {
			t.Helper()
			got := read(t, store, func(tx broker.ReadTx) ([]broker.Event, error) { return tx.SessionEvents(session, after, limit) })
			same(t, fmt.Sprintf("events of session %d after %d, at most %d", session, after, limit), got, want)
		}
		check(1, 0, 10, all[0], all[3], all[5])
		check(1, 1, 10, all[3], all[5])
		check(1, -5, 2, all[0], all[3])
		check(1, 6, 10)
		check(1, 0, 0)
		check(256, 0, 10, all[2])
		check(3, 0, 10)
		check(0, 0, 10)
		prune(t, store, start().Add(4))
		check(1, 0, 10, all[5])
		check(256, 0, 10)
	})
	t.Run("prune", func(t *testing.T) {
		store := s.store(t)
		at := func(d time.Duration) time.Time { return start().Add(d) }
		// Callers take the time before they get their turn: it need not ascend.
		all := appendEvents(t, store, at(0), at(2), at(1), time.Time{}, at(3), at(time.Hour), at(3), time.Unix(-1, 0))
		if got := prune(t, store, time.Time{}); got != 0 {
			t.Errorf("pruned %d events before all times", got)
		}
		if got := prune(t, store, at(3).UTC()); got != 5 {
			t.Errorf("pruned %d events, want 5", got)
		}
		same(t, "events", read(t, store, events(0, 100)), []broker.Event{all[4], all[5], all[6]})
		if got := prune(t, store, at(3)); got != 0 {
			t.Errorf("pruned %d events the second time", got)
		}
		if got := prune(t, store, at(24*time.Hour)); got != 3 {
			t.Errorf("pruned %d events, want the last 3", got)
		}
		next := appendEvents(t, store, at(0))
		if want := all[len(all)-1].Seq + 1; next[0].Seq != want {
			t.Errorf("got sequence number %d after the prune, want %d", next[0].Seq, want)
		}
		same(t, "events at the end", read(t, store, events(0, 100)), next)
	})
}
