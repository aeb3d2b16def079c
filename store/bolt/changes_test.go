package bolt

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func changesOf(t *testing.T, s *Store, since broker.Version) (c broker.Changes) {
	t.Helper()
	err := s.View(t.Context(), func(tx broker.ReadTx) (err error) {
		c, err = tx.Changes(since)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The log knows what was touched, and nothing else.
func TestChanges(t *testing.T) {
	s := openTest(t)
	start := changesOf(t, s, 0)
	if start.Known || start.Version == 0 {
		t.Errorf("at first: %+v", start)
	}
	if c := changesOf(t, s, start.Version); !c.Known || c.Nodes != nil {
		t.Errorf("when nothing has happened since the start: %+v", c)
	}
	var nodes []broker.Node
	session := broker.Session{TenantID: 1, State: broker.SessionActive}
	err := s.Update(t.Context(), func(tx broker.Tx) error {
		nodes = nil
		for range 5 {
			n := broker.NewNode(broker.Pool{Name: "a"}, time.Unix(1, 0))
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
			nodes = append(nodes, n)
		}
		session.ID = 0
		return tx.CreateSession(&session)
	})
	if err != nil {
		t.Fatal(err)
	}
	made := changesOf(t, s, start.Version)
	if want := (broker.Changes{Version: made.Version, Known: true, Nodes: []int64{1, 2, 3, 4, 5}, Sessions: []int64{1}}); !cmp.Equal(made, want) || made.Version <= start.Version {
		t.Errorf("got %+v, want %+v", made, want)
	}
	// What is neither a node nor a session costs nothing to follow.
	for range 10 {
		if err := s.Update(t.Context(), func(tx broker.Tx) error { return tx.AppendEvent(&broker.Event{Kind: broker.EventNode}) }); err != nil {
			t.Fatal(err)
		}
	}
	if c := changesOf(t, s, made.Version); !c.Known || len(c.Nodes)+len(c.Sessions) > 0 || len(s.changes.commits) != 1 {
		t.Errorf("after events: %+v, %d commits are kept", c, len(s.changes.commits))
	}
	before := changesOf(t, s, made.Version).Version
	nodes[2].Attempts++
	if err := s.Update(t.Context(), func(tx broker.Tx) error { return tx.UpdateNode(broker.NodePlanned, nodes[2]) }); err != nil {
		t.Fatal(err)
	}
	if c := changesOf(t, s, before); !cmp.Equal(c.Nodes, []int64{3}) || c.Sessions != nil {
		t.Errorf("got %+v, want node 3", c)
	}
}

// A log that is full forgets the oldest commits, and says so.
func TestChangeLog_full(t *testing.T) {
	var l changeLog
	const each = 1000
	last := 10
	for i := range 5 * maxChanges / each {
		last++
		l.add(last, changeSet{nodes: slices.Repeat([]int64{int64(i)}, each)})
		if l.ids > maxChanges || l.ids != each*len(l.commits) {
			t.Fatalf("%d ids in %d commits", l.ids, len(l.commits))
		}
	}
	if c := l.between(last-1, last); !c.Known || len(c.Nodes) != each {
		t.Errorf("of the last commit: known %t, %d ids", c.Known, len(c.Nodes))
	}
	if c := l.between(l.oldest, last); !c.Known || len(c.Nodes) != l.ids {
		t.Errorf("of all that is kept: known %t, %d ids, want %d", c.Known, len(c.Nodes), l.ids)
	}
	if c := l.between(l.oldest-1, last); c.Known || c.Nodes != nil {
		t.Errorf("beyond: %+v", c)
	}
	if c := l.between(10, last); c.Known {
		t.Error("the first commit is still known")
	}
}

// A commit that failed, or that nobody can see yet, belongs to nobody's past; and
// the next one, which has its version, counts whole.
func TestChangeLog_commits(t *testing.T) {
	var l changeLog
	l.add(5, changeSet{nodes: []int64{1}}) // fails
	if c := l.between(4, 4); !c.Known || c.Nodes != nil {
		t.Errorf("before it: %+v", c)
	}
	l.add(5, changeSet{nodes: []int64{2}, sessions: []int64{7}})
	l.add(6, changeSet{nodes: []int64{3}}) // under way
	if c := l.between(4, 5); !c.Known || !cmp.Equal(slices.Sorted(slices.Values(c.Nodes)), []int64{1, 2}) || !cmp.Equal(c.Sessions, []int64{7}) {
		t.Errorf("got %+v, want nodes 1 and 2 and session 7", c)
	}
	if c := l.between(3, 5); c.Known {
		t.Errorf("before the first commit: %+v", c)
	}
	if c := l.between(7, 6); c.Known {
		t.Errorf("of the future: %+v", c)
	}
}

// A store that was opened anew knows nothing of the versions of the one before.
func TestChanges_reopened(t *testing.T) {
	s := openTest(t)
	create := func() {
		t.Helper()
		err := s.Update(t.Context(), func(tx broker.Tx) error {
			n := broker.NewNode(broker.Pool{Name: "a"}, time.Unix(1, 0))
			return tx.CreateNode(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before := changesOf(t, s, 0).Version
	create()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	s = again
	if c := changesOf(t, s, before); c.Known {
		t.Errorf("after opening: %+v", c)
	}
	create()
	if c := changesOf(t, s, before); c.Known {
		t.Errorf("after a commit: %+v", c)
	}
}
