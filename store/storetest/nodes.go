package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *suite) testNodes(t *testing.T) {
	t.Run("every field comes back", func(t *testing.T) {
		store := s.store(t)
		var n broker.Node
		fill(&n)
		update(t, store, func(tx broker.Tx) error {
			n.ID = 99 // the store's own choice counts
			return tx.CreateNode(&n)
		})
		if n.ID != 1 {
			t.Errorf("got id %d, want 1", n.ID)
		}
		same(t, "node", read(t, store, nodeByID(n.ID)), n)
		same(t, "nodes", read(t, store, nodes(broker.NodeQuery{})), []broker.Node{n})
		same(t, "node by its uid", read(t, store, nodeByUID(n.UID)), n)
	})
	t.Run("by uid", func(t *testing.T) {
		store := s.store(t)
		made := createNodes(t, store, "a", broker.NodeGone, broker.NodeReady, broker.NodeReady)
		for _, n := range made {
			same(t, "node", read(t, store, nodeByUID(n.UID)), n)
		}
		for _, uid := range []string{"", "nobody", made[0].UID[:4], made[0].UID + "0"} {
			lost(t, store, nodeByUID(uid))
		}
		update(t, store, func(tx broker.Tx) error { return tx.DeleteNode(made[0].ID) })
		lost(t, store, nodeByUID(made[0].UID))
	})
	t.Run("values are copies", s.testNodeCopies)
	t.Run("unknown", func(t *testing.T) {
		store := s.store(t)
		createNodes(t, store, "a", broker.NodeReady)
		for _, id := range []int64{0, -1, 2, 1 << 40} {
			lost(t, store, nodeByID(id))
			refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error {
				return tx.UpdateNode(broker.NodeReady, broker.Node{ID: id, UID: "u", Pool: "a", State: broker.NodeReady})
			})
			refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error { return tx.DeleteNode(id) })
		}
	})
	t.Run("uid is known", func(t *testing.T) {
		store := s.store(t)
		old := createNodes(t, store, "a", broker.NodeReady)[0]
		again := node("b")
		again.UID = old.UID
		refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.CreateNode(&again) })
		if again.ID != 0 {
			t.Errorf("a refused node got id %d", again.ID)
		}
	})
	t.Run("names that can't be kept", func(t *testing.T) {
		store := s.store(t)
		for _, change := range []func(*broker.Node){
			func(n *broker.Node) { n.UID = "" },
			func(n *broker.Node) { n.UID = "\xff" },
			func(n *broker.Node) { n.Pool = "" },
			func(n *broker.Node) { n.Pool = "\xff" },
		} {
			n := node("a")
			change(&n)
			refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.CreateNode(&n) })
		}
	})
	t.Run("compare and set", s.testNodeCAS)
	t.Run("delete", s.testNodeDelete)
	t.Run("pool", s.testNodePool)
	t.Run("queries", s.testNodeQueries)
	t.Run("terraform state", s.testNodeTerraform)
}

func (s *suite) testNodeCopies(t *testing.T) {
	store := s.store(t)
	var n, want broker.Node
	fill(&n)
	fill(&want)
	update(t, store, func(tx broker.Tx) error { return tx.CreateNode(&n) })
	want.ID = n.ID
	spoil(&n)
	same(t, "node after the argument of CreateNode was changed", read(t, store, nodeByID(n.ID)), want)

	update(t, store, func(tx broker.Tx) error {
		var n broker.Node
		fill(&n)
		n.ID = want.ID
		if err := tx.UpdateNode(want.State, n); err != nil {
			return err
		}
		spoil(&n)
		got, err := tx.Node(n.ID)
		same(t, "node after the argument of UpdateNode was changed", got, want)
		return err
	})
	got := read(t, store, nodeByID(n.ID))
	spoil(&got)
	list := read(t, store, nodes(broker.NodeQuery{}))
	spoil(&list[0])
	list = read(t, store, nodes(broker.NodeQuery{Pool: want.Pool}))
	spoil(&list[0])
	same(t, "node after results were changed", read(t, store, nodeByID(n.ID)), want)

	// Larger than what a store might copy for reasons of its own.
	large := strings.Repeat("sealed", 5000)
	update(t, store, func(tx broker.Tx) error {
		sealed := []byte(large)
		if err := tx.SetNodeTerraform(want.UID, sealed); err != nil {
			return err
		}
		spoil(&sealed)
		return nil
	})
	terraform := func(tx broker.ReadTx) ([]byte, error) { return tx.NodeTerraform(want.UID) }
	out := read(t, store, terraform)
	same(t, "Terraform state after the argument was changed", string(out), large)
	spoil(&out)
	same(t, "Terraform state after the result was changed", string(read(t, store, terraform)), large)
}

func (s *suite) testNodeCAS(t *testing.T) {
	store := s.store(t)
	old := createNodes(t, store, "a", broker.NodeReady)[0]

	n := old
	n.State, n.SessionID = broker.NodeReserved, 7
	update(t, store, func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReady, n) })
	same(t, "node", read(t, store, nodeByID(n.ID)), n)

	late := old
	late.State, late.SessionID = broker.NodeReserved, 8
	err := refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.UpdateNode(broker.NodeReady, late) })
	var transition *broker.TransitionError
	if !broker.IsTransition(err) || !errors.As(err, &transition) {
		t.Fatalf("got %v, want a TransitionError", err)
	}
	same(t, "transition error", *transition, broker.TransitionError{
		Object: fmt.Sprintf("node %d", n.ID), From: string(broker.NodeReserved), To: string(broker.NodeReserved), Expected: string(broker.NodeReady),
	})
	same(t, "node after the late writer", read(t, store, nodeByID(n.ID)), n)

	for what, change := range map[string]func(*broker.Node){
		"uid":  func(n *broker.Node) { n.UID = broker.NewUID() },
		"pool": func(n *broker.Node) { n.Pool = "b" },
	} {
		moved := n
		change(&moved)
		err := refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.UpdateNode(n.State, moved) })
		if broker.IsTransition(err) {
			t.Errorf("a changed %s gives a transition error: %v", what, err)
		}
	}
	update(t, store, func(tx broker.Tx) error { return tx.UpdateNode(n.State, n) }) // changes nothing
	same(t, "node after refused and idle writes", read(t, store, nodes(broker.NodeQuery{})), []broker.Node{n})
}

func (s *suite) testNodePool(t *testing.T) {
	store := s.store(t)
	var want []broker.Node
	for _, state := range broker.NodeStates() {
		n := createNodes(t, store, "a", state)[0]
		update(t, store, func(tx broker.Tx) error { return tx.SetNodePool(n.ID, "b") })
		n.Pool = "b"
		want = append(want, n)
	}
	same(t, "nodes of the old pool", len(read(t, store, nodes(broker.NodeQuery{Pool: "a"}))), 0)
	same(t, "nodes of the new pool", read(t, store, nodes(broker.NodeQuery{Pool: "b"})), want)
	counts := func(tx broker.ReadTx) (map[broker.NodeState]int, error) { return tx.CountNodes("b") }
	for state, count := range read(t, store, counts) {
		same(t, "nodes that are "+string(state), count, 1)
	}
	n := want[0]
	n.Attempts = 3
	update(t, store, func(tx broker.Tx) error { return tx.UpdateNode(n.State, n) })
	update(t, store, func(tx broker.Tx) error { return tx.SetNodePool(n.ID, "b") }) // changes nothing
	same(t, "node after the move", read(t, store, nodeByID(n.ID)), n)
	refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.SetNodePool(n.ID, "") })
	refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error { return tx.SetNodePool(1000, "b") })
}

func (s *suite) testNodeDelete(t *testing.T) {
	store := s.store(t)
	for _, state := range broker.NodeStates() {
		n := createNodes(t, store, "a", state)[0]
		update(t, store, func(tx broker.Tx) error { return tx.SetNodeTerraform(n.UID, []byte("sealed")) })
		if state != broker.NodeGone {
			refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.DeleteNode(n.ID) })
			same(t, "node", read(t, store, nodeByID(n.ID)), n)
			continue
		}
		update(t, store, func(tx broker.Tx) error { return tx.DeleteNode(n.ID) })
		lost(t, store, nodeByID(n.ID))
		got := read(t, store, func(tx broker.ReadTx) ([]byte, error) { return tx.NodeTerraform(n.UID) })
		same(t, "Terraform state of a forgotten node", got, []byte(nil))
		same(t, "gone nodes", read(t, store, nodes(broker.NodeQuery{States: []broker.NodeState{state}})), []broker.Node{})
	}
	// The highest id was given to a node that has gone.
	gone := createNodes(t, store, "a", broker.NodeGone)[0]
	update(t, store, func(tx broker.Tx) error { return tx.DeleteNode(gone.ID) })
	next := node("a")
	next.UID = gone.UID // forgotten, so free again
	update(t, store, func(tx broker.Tx) error {
		next.ID = 0
		return tx.CreateNode(&next)
	})
	if next.ID <= gone.ID {
		t.Errorf("got id %d after id %d was forgotten", next.ID, gone.ID)
	}
}

func (s *suite) testNodeQueries(t *testing.T) {
	store := s.store(t)
	// Names that a careless index takes for each other.
	pools := []string{"a", "aa", "a\x00", "ab", "b", "node", "é"}
	var all []broker.Node
	for range 2 {
		for _, pool := range pools {
			all = append(all, createNodes(t, store, pool, broker.NodeStates()...)...)
		}
	}
	var moved []broker.Node // some have been elsewhere before
	update(t, store, func(tx broker.Tx) error {
		moved = slices.Clone(all)
		for i := 0; i < len(moved); i += 3 {
			old := moved[i].State
			moved[i].State = broker.NodeStates()[i%len(broker.NodeStates())]
			if err := tx.UpdateNode(old, moved[i]); err != nil {
				return err
			}
		}
		return nil
	})
	all = moved

	stateSets := [][]broker.NodeState{nil, {"unheard-of"}, broker.LiveNodeStates(), {broker.NodeReady, broker.NodeReady}, {broker.NodeGone, broker.NodePlanned}}
	for _, state := range broker.NodeStates() {
		stateSets = append(stateSets, []broker.NodeState{state})
	}
	for _, pool := range append(pools, "", "nobody's") {
		for _, states := range stateSets {
			for _, limit := range []int{0, 1, 3, 1000} {
				q := broker.NodeQuery{Pool: pool, States: states, Limit: limit}
				same(t, fmt.Sprintf("nodes of %+v", q), idsOf(read(t, store, nodes(q))), idsOf(choose(all, q)))
			}
		}
		got := read(t, store, func(tx broker.ReadTx) (map[broker.NodeState]int, error) { return tx.CountNodes(pool) })
		want := make(map[broker.NodeState]int)
		for _, n := range choose(all, broker.NodeQuery{Pool: pool}) {
			want[n.State]++
		}
		for _, state := range broker.NodeStates() {
			if got[state] != want[state] {
				t.Errorf("pool %q: counted %d nodes that are %s, want %d", pool, got[state], state, want[state])
			}
		}
	}
	byPool := make(map[string]map[broker.NodeState]int)
	for _, n := range all {
		if byPool[n.Pool] == nil {
			byPool[n.Pool] = make(map[broker.NodeState]int)
		}
		byPool[n.Pool][n.State]++
	}
	same(t, "counts by pool", read(t, store, broker.ReadTx.CountNodesByPool), byPool)
	same(t, "nodes in full", read(t, store, nodes(broker.NodeQuery{States: broker.NodeStates()})), all)
}

// choose answers a query from a list that is ordered by id.
func choose(all []broker.Node, q broker.NodeQuery) (chosen []broker.Node) {
	for _, n := range all {
		if n.ID > q.After && (q.Pool == "" || n.Pool == q.Pool) && (len(q.States) == 0 || slices.Contains(q.States, n.State)) &&
			(q.Limit == 0 || len(chosen) < q.Limit) {
			chosen = append(chosen, n)
		}
	}
	return chosen
}

func (s *suite) testNodeTerraform(t *testing.T) {
	store := s.store(t)
	two := createNodes(t, store, "a", broker.NodeApplying, broker.NodeApplying)
	get := func(n broker.Node) string {
		return string(read(t, store, func(tx broker.ReadTx) ([]byte, error) { return tx.NodeTerraform(n.UID) }))
	}
	set := func(n broker.Node, sealed []byte) {
		t.Helper()
		update(t, store, func(tx broker.Tx) error { return tx.SetNodeTerraform(n.UID, sealed) })
	}
	large := slices.Repeat([]byte{0, 1, 254, 255}, 100_000)
	set(two[0], []byte("first"))
	set(two[1], large)
	set(two[0], []byte("second"))
	if got := get(two[0]); got != "second" {
		t.Errorf("got %q, want the second state", got)
	}
	if got := get(two[1]); got != string(large) {
		t.Errorf("got %d bytes back, which are not the %d that were stored", len(got), len(large))
	}
	set(two[0], nil)
	set(two[0], nil)
	view(t, store, func(tx broker.ReadTx) error {
		for _, uid := range []string{two[0].UID, "nobody", ""} {
			got, err := tx.NodeTerraform(uid)
			if got != nil || err != nil {
				t.Errorf("uid %q: got %q, %v, want nothing", uid, got, err)
			}
		}
		return nil
	})
	refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error { return tx.SetNodeTerraform("nobody", []byte("x")) })
	refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error { return tx.SetNodeTerraform("nobody", nil) })
}
