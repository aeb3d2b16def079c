package storetest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func runs(node int64) func(broker.ReadTx) ([]broker.Run, error) {
	return func(tx broker.ReadTx) ([]broker.Run, error) { return tx.Runs(node) }
}

func runLog(id int64) func(broker.ReadTx) ([]byte, error) {
	return func(tx broker.ReadTx) ([]byte, error) { return tx.RunLog(id) }
}

// addRuns stores a run of a node for each time of end.
func addRuns(t *testing.T, store broker.Store, node int64, ends ...time.Time) (list []broker.Run) {
	t.Helper()
	update(t, store, func(tx broker.Tx) error {
		list = nil
		for _, end := range ends {
			r := broker.Run{NodeID: node, Operation: "destroy", Ended: end, Log: []byte(end.String())}
			if err := tx.AddRun(&r); err != nil {
				return err
			}
			r.Log = nil
			list = append(list, r)
		}
		return nil
	})
	return list
}

func (s *suite) testRuns(t *testing.T) {
	at := func(d time.Duration) time.Time { return start().Add(d) }
	t.Run("every field comes back, and is a copy", func(t *testing.T) {
		store := s.store(t)
		var r, want broker.Run
		fill(&want)
		log := append([]byte(nil), want.Log...)
		want.ID, want.Log = 1, nil
		update(t, store, func(tx broker.Tx) error {
			fill(&r)
			if err := tx.AddRun(&r); err != nil {
				return err
			}
			spoil(&r)
			return nil
		})
		same(t, "runs", read(t, store, runs(want.NodeID)), []broker.Run{want})
		got := read(t, store, runLog(1))
		same(t, "log", got, log)
		spoil(&got)
		same(t, "log after the result was changed", read(t, store, runLog(1)), log)
	})
	t.Run("by node", func(t *testing.T) {
		store := s.store(t)
		one := addRuns(t, store, 1, at(1), at(2))
		other := addRuns(t, store, 256, at(3))
		one = append(one, addRuns(t, store, 1, at(4))...)
		same(t, "runs of node 1", read(t, store, runs(1)), one)
		same(t, "runs of node 256", read(t, store, runs(256)), other)
		if got := read(t, store, runs(2)); len(got) != 0 {
			t.Errorf("runs of node 2: %+v", got)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		store := s.store(t)
		lost(t, store, runLog(1))
		refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error { return tx.DeleteRun(1) })
	})
	t.Run("delete", func(t *testing.T) {
		store := s.store(t)
		all := addRuns(t, store, 1, at(1), at(2), at(3))
		update(t, store, func(tx broker.Tx) error { return tx.DeleteRun(all[1].ID) })
		same(t, "runs", read(t, store, runs(1)), []broker.Run{all[0], all[2]})
		lost(t, store, runLog(all[1].ID))
		update(t, store, func(tx broker.Tx) error { return tx.DeleteRun(all[2].ID) })
		if next := addRuns(t, store, 1, at(4)); next[0].ID != 4 {
			t.Errorf("the next run has id %d, want 4", next[0].ID)
		}
	})
	t.Run("prune", func(t *testing.T) {
		store := s.store(t)
		all := addRuns(t, store, 1, at(1), at(2), at(5), at(3))
		pruneRuns := func(before time.Time) (n int) {
			update(t, store, func(tx broker.Tx) (err error) {
				n, err = tx.PruneRuns(before)
				return err
			})
			return n
		}
		for _, tt := range []struct {
			before time.Time
			want   int
		}{{at(1), 0}, {at(4), 2}, {at(4), 0}} {
			if got := pruneRuns(tt.before); got != tt.want {
				t.Errorf("pruned %d runs before %v, want %d", got, tt.before, tt.want)
			}
		}
		same(t, "runs", read(t, store, runs(1)), all[2:])
		lost(t, store, runLog(all[0].ID))
		if got := pruneRuns(at(time.Hour)); got != 2 {
			t.Errorf("pruned %d runs, want the last 2", got)
		}
	})
	t.Run("undone with the transaction", func(t *testing.T) {
		store := s.store(t)
		all := addRuns(t, store, 1, at(1))
		refused(t, store, broker.CodeConflict, func(tx broker.Tx) error {
			if err := tx.AddRun(&broker.Run{NodeID: 1, Log: []byte("x")}); err != nil {
				return err
			}
			if err := tx.DeleteRun(all[0].ID); err != nil {
				return err
			}
			return broker.Errorf(broker.CodeConflict, "no")
		})
		same(t, "runs", read(t, store, runs(1)), all)
		same(t, "log", read(t, store, runLog(all[0].ID)), []byte(at(1).String()))
	})
	t.Run("too many of a node", func(t *testing.T) {
		store := s.store(t)
		n := broker.Node{ID: 7, UID: "u", Pool: "p"}
		for range 5 {
			update(t, store, func(tx broker.Tx) error { return broker.AddRuns(tx, n, make([]broker.Run, 6)) })
		}
		got := read(t, store, runs(7))
		if len(got) != broker.MaxRunsPerNode || got[0].ID != 1 || got[1].ID != 12 || got[len(got)-1].ID != 30 || got[3].NodeUID != "u" || got[3].Pool != "p" {
			t.Errorf("%d runs are kept: %+v", len(got), got)
		}
	})
	t.Run("a run that is given again is kept once", func(t *testing.T) {
		store := s.store(t)
		n := broker.Node{ID: 7, UID: "u", Pool: "p"}
		first := broker.Run{Operation: "destroy", Began: at(1), Log: []byte("first")}
		apply, later := broker.Run{Operation: "apply", Began: at(1)}, broker.Run{Operation: "destroy", Began: at(2)}
		again := first
		again.Began, again.Log = at(1).UTC(), []byte("again")
		for _, runs := range [][]broker.Run{{first}, {again, later}, {again, apply}} {
			update(t, store, func(tx broker.Tx) error { return broker.AddRuns(tx, n, runs) })
		}
		var got []string
		for _, r := range read(t, store, runs(7)) {
			got = append(got, fmt.Sprint(r.ID, " ", r.Operation))
		}
		same(t, "runs", got, []string{"1 destroy", "2 destroy", "3 apply"})
		same(t, "log", read(t, store, runLog(1)), []byte("first"))
	})
	t.Run("all of them, with logs", func(t *testing.T) {
		store := s.store(t)
		addRuns(t, store, 1, at(1))
		addRuns(t, store, 2, at(2), at(3))
		for _, tt := range []struct {
			after int64
			limit int
			want  string
		}{{0, 9, "1 2 3"}, {-1, 9, "1 2 3"}, {math.MinInt64, 9, "1 2 3"}, {1, 1, "2"}, {3, 9, ""}, {math.MaxInt64, 9, ""}, {0, 0, ""}, {0, -1, ""}} {
			var ids []string
			for _, r := range read(t, store, func(tx broker.ReadTx) ([]broker.Run, error) { return tx.RunsAfter(tt.after, tt.limit) }) {
				ids = append(ids, fmt.Sprint(r.ID))
				same(t, "whether it has a log", len(r.Log) > 0, true)
			}
			same(t, fmt.Sprintf("runs after %d, at most %d", tt.after, tt.limit), strings.Join(ids, " "), tt.want)
		}
	})
	t.Run("a log is replaced", func(t *testing.T) {
		store := s.store(t)
		r := addRuns(t, store, 1, at(1))[0]
		log := []byte("sealed again")
		update(t, store, func(tx broker.Tx) error { return tx.SetRunLog(r.ID, log) })
		clear(log)
		same(t, "log", string(read(t, store, runLog(r.ID))), "sealed again")
		same(t, "runs", read(t, store, runs(1)), []broker.Run{r})
		update(t, store, func(tx broker.Tx) error { return tx.SetRunLog(r.ID, nil) })
		same(t, "no log", read(t, store, runLog(r.ID)), []byte(nil))
		for _, id := range []int64{0, -1, 2} {
			refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error { return tx.SetRunLog(id, []byte("x")) })
		}
	})
}
