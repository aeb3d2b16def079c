package bolt

import (
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker"
)

func sessionIndexKey(s broker.Session) []byte {
	return append(stateKey(string(s.State), idKey(s.TenantID)), idKey(s.ID)...)
}

// Session implements [broker.ReadTx].
func (t *tx) Session(id int64) (broker.Session, error) {
	s, ok, err := read[broker.Session](t, bucketSessions, idKey(id))
	if err == nil && !ok {
		err = broker.Errorf(broker.CodeNotFound, "there is no session %d", id)
	}
	return s, err
}

// Sessions implements [broker.ReadTx].
func (t *tx) Sessions(q broker.SessionQuery) ([]broker.Session, error) {
	if q.TenantID == 0 && len(q.States) == 0 {
		return readAll[broker.Session](t, bucketSessions, firstID(q.After), q.Limit)
	}
	var group []byte
	if q.TenantID != 0 {
		group = idKey(q.TenantID)
	}
	ids, err := t.ids(bucketSessionsByState, texts(q.States), group, q.After, q.Limit)
	if err != nil {
		return nil, err
	}
	return readIDs[broker.Session](t, bucketSessions, ids)
}

// CountSessions implements [broker.ReadTx].
func (t *tx) CountSessions(state broker.SessionState) (count int, err error) {
	err = t.scanPrefix(bucketSessionsByState, stateKey(string(state), nil), func(_, _ []byte) bool {
		count++
		return true
	})
	return count, err
}

// CreateSession implements [broker.Tx].
func (t *tx) CreateSession(s *broker.Session) error {
	id, err := t.nextID(bucketSessions)
	if err != nil {
		return err
	}
	stored := *s
	stored.ID = id
	if err := t.write(bucketSessions, idKey(id), stored); err != nil {
		return err
	}
	if err := t.put(bucketSessionsByState, sessionIndexKey(stored), nil); err != nil {
		return err
	}
	s.ID = id
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
	if err := t.write(bucketSessions, idKey(s.ID), s); err != nil {
		return err
	}
	if old.State == s.State && old.TenantID == s.TenantID {
		return nil
	}
	if err := t.remove(bucketSessionsByState, sessionIndexKey(old)); err != nil {
		return err
	}
	return t.put(bucketSessionsByState, sessionIndexKey(s), nil)
}
