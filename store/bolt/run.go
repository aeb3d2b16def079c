package bolt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func runIndexKey(r broker.Run) []byte { return append(idKey(r.NodeID), idKey(r.ID)...) }

// Runs implements [broker.ReadTx].
func (t *tx) Runs(node int64) ([]broker.Run, error) {
	var ids []int64
	err := t.scanPrefix(bucketRunsByNode, idKey(node), func(key, _ []byte) bool {
		ids = append(ids, keyID(key))
		return true
	})
	if err != nil {
		return nil, err
	}
	return readIDs[broker.Run](t, bucketRuns, ids)
}

func (t *tx) run(id int64) (broker.Run, error) {
	r, ok, err := read[broker.Run](t, bucketRuns, idKey(id))
	if err == nil && !ok {
		err = broker.Errorf(broker.CodeNotFound, "there is no run %d", id)
	}
	return r, err
}

// RunLog implements [broker.ReadTx].
func (t *tx) RunLog(id int64) ([]byte, error) {
	if _, err := t.run(id); err != nil {
		return nil, err
	}
	return t.get(bucketRunLogs, idKey(id))
}

// AddRun implements [broker.Tx].
func (t *tx) AddRun(r *broker.Run) error {
	id, err := t.nextID(bucketRuns)
	if err != nil {
		return err
	}
	stored := *r
	stored.ID = id
	if err := t.write(bucketRuns, idKey(id), stored); err != nil {
		return err
	}
	if err := t.put(bucketRunsByNode, runIndexKey(stored), nil); err != nil {
		return err
	}
	if len(r.Log) > 0 {
		if err := t.put(bucketRunLogs, idKey(id), bytes.Clone(r.Log)); err != nil { // bbolt keeps it until the commit
			return err
		}
	}
	r.ID = id
	return nil
}

// DeleteRun implements [broker.Tx].
func (t *tx) DeleteRun(id int64) error {
	r, err := t.run(id)
	if err != nil {
		return err
	}
	if err := t.remove(bucketRuns, idKey(id)); err != nil {
		return err
	}
	if err := t.remove(bucketRunsByNode, runIndexKey(r)); err != nil {
		return err
	}
	return t.remove(bucketRunLogs, idKey(id))
}

// PruneRuns implements [broker.Tx].
func (t *tx) PruneRuns(before time.Time) (int, error) {
	var old []int64
	err := t.scan(bucketRuns, nil, func(key, raw []byte) bool {
		var r broker.Run
		if bad := json.Unmarshal(raw, &r); bad != nil {
			_ = t.damaged(fmt.Errorf("%s, key %x: %w", bucketRuns, key, bad))
			return false
		}
		if !r.Ended.Before(before) {
			return false
		}
		old = append(old, r.ID)
		return true
	})
	if err == nil {
		err = t.failure
	}
	if err != nil {
		return 0, err
	}
	for _, id := range old { // a cursor can't be trusted while keys go
		if err := t.DeleteRun(id); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}

// RunsAfter implements [broker.ReadTx].
func (t *tx) RunsAfter(after int64, limit int) ([]broker.Run, error) {
	if limit <= 0 {
		return nil, nil
	}
	found, err := readAll[broker.Run](t, bucketRuns, idKey(max(0, after)+1), limit)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if found[i].Log, err = t.get(bucketRunLogs, idKey(found[i].ID)); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// SetRunLog implements [broker.Tx].
func (t *tx) SetRunLog(id int64, log []byte) error {
	if _, err := t.run(id); err != nil {
		return err
	}
	if len(log) == 0 {
		return t.remove(bucketRunLogs, idKey(id))
	}
	return t.put(bucketRunLogs, idKey(id), bytes.Clone(log)) // bbolt keeps it until the commit
}
