package memory

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Runs implements [broker.ReadTx].
func (t *tx) Runs(node int64) ([]broker.Run, error) {
	return list(t.runs, 0, func(r broker.Run) bool { return r.NodeID == node })
}

// RunLog implements [broker.ReadTx].
func (t *tx) RunLog(id int64) ([]byte, error) {
	if _, err := find(t.runs, id, "run"); err != nil {
		return nil, err
	}
	return bytes.Clone(t.runLogs[id]), nil
}

// AddRun implements [broker.Tx].
func (t *tx) AddRun(r *broker.Run) error {
	stored := *r
	stored.ID = t.lastRun + 1
	set(t, &t.lastRun, stored.ID)
	if err := put(t, t.runs, stored.ID, stored); err != nil {
		return err
	}
	if len(r.Log) > 0 {
		if err := put(t, t.runLogs, stored.ID, r.Log); err != nil {
			return err
		}
	}
	r.ID = stored.ID
	return nil
}

// DeleteRun implements [broker.Tx].
func (t *tx) DeleteRun(id int64) error {
	if _, err := find(t.runs, id, "run"); err != nil {
		return err
	}
	remove(t, t.runs, id)
	remove(t, t.runLogs, id)
	return nil
}

// PruneRuns implements [broker.Tx].
func (t *tx) PruneRuns(before time.Time) (int, error) {
	pruned := 0
	for _, id := range slices.Sorted(maps.Keys(t.runs)) {
		if !t.runs[id].Ended.Before(before) {
			break
		}
		remove(t, t.runs, id)
		remove(t, t.runLogs, id)
		pruned++
	}
	return pruned, nil
}

// RunsAfter implements [broker.ReadTx].
func (t *tx) RunsAfter(after int64, limit int) ([]broker.Run, error) {
	if limit <= 0 {
		return nil, nil
	}
	found, err := list(t.runs, limit, func(r broker.Run) bool { return r.ID > after })
	for i := range found {
		found[i].Log = bytes.Clone(t.runLogs[found[i].ID])
	}
	return found, err
}

// SetRunLog implements [broker.Tx].
func (t *tx) SetRunLog(id int64, log []byte) error {
	if _, err := find(t.runs, id, "run"); err != nil {
		return err
	}
	if len(log) == 0 {
		remove(t, t.runLogs, id)
		return nil
	}
	return put(t, t.runLogs, id, log)
}
