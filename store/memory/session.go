package memory

import (
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Session implements [broker.ReadTx].
func (t *tx) Session(id int64) (broker.Session, error) { return find(t.sessions, id, "session") }

// Sessions implements [broker.ReadTx].
func (t *tx) Sessions(q broker.SessionQuery) ([]broker.Session, error) {
	return list(t.sessions, q.Limit, func(s broker.Session) bool {
		return s.ID > q.After && (q.TenantID == 0 || q.TenantID == s.TenantID) && asked(q.States, s.State)
	})
}

// CountSessions implements [broker.ReadTx].
func (t *tx) CountSessions(state broker.SessionState) (count int, err error) {
	for _, s := range t.sessions {
		if s.State == state {
			count++
		}
	}
	return count, nil
}

// CreateSession implements [broker.Tx].
func (t *tx) CreateSession(s *broker.Session) error {
	stored := *s
	stored.ID = t.lastSess + 1
	if err := put(t, t.sessions, stored.ID, stored); err != nil {
		return err
	}
	set(t, &t.lastSess, stored.ID)
	t.touchedSessions = append(t.touchedSessions, stored.ID)
	s.ID = stored.ID
	return nil
}

// UpdateSession implements [broker.Tx].
func (t *tx) UpdateSession(expect broker.SessionState, s broker.Session) error {
	old, err := t.Session(s.ID)
	if err != nil {
		return err
	}
	if old.State != expect {
		return &broker.TransitionError{
			Object: fmt.Sprintf("session %d", s.ID), From: string(old.State), To: string(s.State), Expected: string(expect),
		}
	}
	t.touchedSessions = append(t.touchedSessions, s.ID)
	return put(t, t.sessions, s.ID, s)
}
