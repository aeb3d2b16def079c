package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func sessionStates() []broker.SessionState {
	return []broker.SessionState{broker.SessionPreparing, broker.SessionActive, broker.SessionRetired, broker.SessionAbandoned}
}

func sessionByID(id int64) func(broker.ReadTx) (broker.Session, error) {
	return func(tx broker.ReadTx) (broker.Session, error) { return tx.Session(id) }
}

func (s *suite) testSessions(t *testing.T) {
	t.Run("every field comes back, and is a copy", func(t *testing.T) {
		store := s.store(t)
		var n, want broker.Session
		fill(&n)
		fill(&want)
		want.ID = 1
		update(t, store, func(tx broker.Tx) error { return tx.CreateSession(&n) })
		same(t, "what CreateSession hands out", n, want)
		spoil(&n)
		same(t, "session after the argument of CreateSession was changed", read(t, store, sessionByID(1)), want)
		update(t, store, func(tx broker.Tx) error {
			fill(&n)
			n.ID = 1
			if err := tx.UpdateSession(want.State, n); err != nil {
				return err
			}
			spoil(&n)
			return nil
		})
		same(t, "session after the argument of UpdateSession was changed", read(t, store, sessionByID(1)), want)
		list := func(tx broker.ReadTx) ([]broker.Session, error) { return tx.Sessions(broker.SessionQuery{}) }
		got := read(t, store, sessionByID(1))
		spoil(&got)
		spoil(&read(t, store, list)[0])
		same(t, "sessions after results were changed", read(t, store, list), []broker.Session{want})
	})
	t.Run("unknown", func(t *testing.T) {
		store := s.store(t)
		for _, id := range []int64{0, -1, 1} {
			lost(t, store, sessionByID(id))
			refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error {
				return tx.UpdateSession(broker.SessionActive, broker.Session{ID: id, State: broker.SessionActive})
			})
		}
	})
	t.Run("compare and set", func(t *testing.T) {
		store := s.store(t)
		n := broker.Session{TenantID: 1, State: broker.SessionActive, ExpiresAt: start()}
		update(t, store, func(tx broker.Tx) error { return tx.CreateSession(&n) })
		late := n
		n.State = broker.SessionRetired
		update(t, store, func(tx broker.Tx) error { return tx.UpdateSession(broker.SessionActive, n) })
		late.ExpiresAt = start().AddDate(1, 0, 0)
		err := refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.UpdateSession(broker.SessionActive, late) })
		var transition *broker.TransitionError
		if !errors.As(err, &transition) {
			t.Fatalf("got %v, want a TransitionError", err)
		}
		same(t, "transition error", *transition, broker.TransitionError{
			Object: fmt.Sprintf("session %d", n.ID), From: string(broker.SessionRetired), To: string(broker.SessionActive), Expected: string(broker.SessionActive),
		})
		same(t, "session after the late writer", read(t, store, sessionByID(n.ID)), n)
	})
	t.Run("queries", s.testSessionQueries)
}

func (s *suite) testSessionQueries(t *testing.T) {
	store := s.store(t)
	var all []broker.Session
	update(t, store, func(tx broker.Tx) error {
		all = nil
		for i := range 40 {
			// Ids of tenants that a careless index takes for each other.
			n := broker.Session{TenantID: []int64{1, 2, 255, 256, 257}[i%5], State: sessionStates()[i%3]}
			if err := tx.CreateSession(&n); err != nil {
				return err
			}
			all = append(all, n)
		}
		for i := 0; i < len(all); i += 4 {
			old := all[i].State
			all[i].State = broker.SessionAbandoned
			if i%8 == 0 {
				all[i].TenantID = 2
			}
			if err := tx.UpdateSession(old, all[i]); err != nil {
				return err
			}
		}
		return nil
	})
	stateSets := [][]broker.SessionState{nil, {"unheard-of"}, {broker.SessionActive, broker.SessionPreparing, broker.SessionActive}}
	for _, state := range sessionStates() {
		stateSets = append(stateSets, []broker.SessionState{state})
	}
	for _, state := range append(sessionStates(), "unheard-of", "act") {
		want := 0
		for _, n := range all {
			if n.State == state {
				want++
			}
		}
		got := read(t, store, func(tx broker.ReadTx) (int, error) { return tx.CountSessions(state) })
		same(t, fmt.Sprintf("sessions that are %s", state), got, want)
	}
	for _, tenant := range []int64{0, 1, 2, 255, 256, 257, 3} {
		for _, states := range stateSets {
			var want []broker.Session
			for _, n := range all {
				if (tenant == 0 || n.TenantID == tenant) && (len(states) == 0 || slices.Contains(states, n.State)) {
					want = append(want, n)
				}
			}
			q := broker.SessionQuery{TenantID: tenant, States: states}
			got := read(t, store, func(tx broker.ReadTx) ([]broker.Session, error) { return tx.Sessions(q) })
			same(t, fmt.Sprintf("sessions of %+v", q), got, want)
		}
	}
}
