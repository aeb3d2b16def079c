package bolt

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// timeKey orders as the times do, those before 1970 included.
func timeKey(at time.Time) []byte {
	key := binary.BigEndian.AppendUint64(nil, uint64(at.Unix())^(1<<63)) //nolint:gosec // the flipped sign makes it order
	return binary.BigEndian.AppendUint32(key, uint32(at.Nanosecond()))   //nolint:gosec // below 10^9
}

// sessionEventKey is the key of an event in the index by session, nil for one
// that belongs to none.
func sessionEventKey(e broker.Event) []byte {
	if e.SessionID == 0 {
		return nil
	}
	return append(idKey(e.SessionID), idKey(e.Seq)...)
}

func eventIndexKey(e broker.Event) []byte { return append(timeKey(e.At), idKey(e.Seq)...) }

// Events implements [broker.ReadTx].
func (t *tx) Events(after int64, limit int) ([]broker.Event, error) {
	if limit <= 0 {
		return nil, nil
	}
	return readAll[broker.Event](t, bucketEvents, firstID(after), limit)
}

// AppendEvent implements [broker.Tx].
func (t *tx) AppendEvent(e *broker.Event) error {
	seq, err := t.nextID(bucketEvents)
	if err != nil {
		return err
	}
	stored := *e
	stored.Seq = seq
	if err := t.write(bucketEvents, idKey(seq), stored); err != nil {
		return err
	}
	if err := t.put(bucketEventsByTime, eventIndexKey(stored), nil); err != nil {
		return err
	}
	if key := sessionEventKey(stored); key != nil {
		if err := t.put(bucketEventsBySession, key, nil); err != nil {
			return err
		}
	}
	e.Seq = seq
	return nil
}

// SessionEvents implements [broker.ReadTx].
func (t *tx) SessionEvents(sessionID, after int64, limit int) ([]broker.Event, error) {
	if limit <= 0 {
		return nil, nil
	}
	var seqs []int64
	session := idKey(sessionID)
	err := t.scan(bucketEventsBySession, append(idKey(sessionID), firstID(after)...), func(key, _ []byte) bool {
		if !bytes.HasPrefix(key, session) {
			return false
		}
		seqs = append(seqs, keyID(key))
		return len(seqs) != limit
	})
	if err != nil {
		return nil, err
	}
	return readIDs[broker.Event](t, bucketEvents, seqs)
}

// LastEvent implements [broker.ReadTx].
func (t *tx) LastEvent() (last int64, err error) {
	defer t.guard(&err)
	b, err := t.bucket(bucketEvents)
	if err != nil {
		return 0, err
	}
	return int64(b.Sequence()), nil //nolint:gosec // as in nextID
}

// PruneEvents implements [broker.Tx]. Events need not have come in the order of
// their times.
func (t *tx) PruneEvents(before time.Time) (int, error) {
	var old [][]byte
	end := timeKey(before)
	err := t.scan(bucketEventsByTime, nil, func(key, _ []byte) bool {
		if bytes.Compare(key[:len(end)], end) >= 0 {
			return false
		}
		old = append(old, bytes.Clone(key))
		return true
	})
	if err != nil {
		return 0, err
	}
	for _, key := range old { // a cursor can't be trusted while keys go
		e, _, err := read[broker.Event](t, bucketEvents, idKey(keyID(key)))
		if err != nil {
			return 0, err
		}
		if bySession := sessionEventKey(e); bySession != nil {
			if err := t.remove(bucketEventsBySession, bySession); err != nil {
				return 0, err
			}
		}
		if err := t.remove(bucketEvents, idKey(keyID(key))); err != nil {
			return 0, err
		}
		if err := t.remove(bucketEventsByTime, key); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}

// indexEvents fills the index by session.
func (t *tx) indexEvents() error {
	events, err := readAll[broker.Event](t, bucketEvents, nil, 0)
	if err != nil {
		return err
	}
	for _, e := range events {
		if key := sessionEventKey(e); key != nil {
			if err := t.put(bucketEventsBySession, key, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
