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

func eventIndexKey(e broker.Event) []byte { return append(timeKey(e.At), idKey(e.Seq)...) }

// Events implements [broker.ReadTx].
func (t *tx) Events(after int64, limit int) ([]broker.Event, error) {
	if limit <= 0 {
		return nil, nil
	}
	return readAll[broker.Event](t, bucketEvents, idKey(max(0, after)+1), limit)
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
	e.Seq = seq
	return nil
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
		if err := t.remove(bucketEvents, idKey(keyID(key))); err != nil {
			return 0, err
		}
		if err := t.remove(bucketEventsByTime, key); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}
