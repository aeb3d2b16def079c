package reconcile

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// What was planned on an older world is looked at once more when it is
// committed: nodes that have moved on are left alone, extended sessions go on,
// and the maximum holds whatever was counted before.
func TestCommitOfAnOldPlan(t *testing.T) {
	store, pools := memory.New(), new(broker.PoolSet)
	p := testPool("a", 2, 4)
	pools.Set([]broker.Pool{p})
	loop := New(Config{Store: store, Pools: pools, Log: slog.New(slog.DiscardHandler)})
	lent, ready := broker.NewNode(p, t0), broker.NewNode(p, t0)
	lent.State, ready.State = broker.NodeDeployed, broker.NodeReady
	session := broker.Session{State: broker.SessionActive, ExpiresAt: t0.Add(time.Hour)}
	err := store.Update(t.Context(), func(tx broker.Tx) error {
		lent.ID, ready.ID, session.ID, session.Nodes = 0, 0, 0, nil
		if err := tx.CreateSession(&session); err != nil {
			return err
		}
		lent.SessionID = session.ID
		for _, n := range []*broker.Node{&lent, &ready} {
			if err := tx.CreateNode(n); err != nil {
				return err
			}
		}
		session.Nodes = []broker.LentNode{{ID: lent.ID, Pool: "a"}}
		return tx.UpdateSession(broker.SessionActive, session)
	})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := loop.commit(t.Context(), t0, []Action{
		{Kind: ReleaseNode, NodeID: lent.ID, Pool: "a", State: broker.NodeReady},        // lent since
		{Kind: DestroyNode, NodeID: ready.ID, Pool: "a", State: broker.NodeFailed},      // never was
		{Kind: CheckNode, NodeID: 99, Pool: "a", State: broker.NodeChecking},            // forgotten since
		{Kind: ExpireSession, SessionID: session.ID, Session: broker.SessionActive},     // extended since
		{Kind: AbandonSession, SessionID: session.ID, Session: broker.SessionPreparing}, // acknowledged since
		{Kind: CreateNode, Pool: "a"}, {Kind: CreateNode, Pool: "a"}, {Kind: CreateNode, Pool: "a"}, // one too many
		{Kind: CreateNode, Pool: "b"}, // its pool has gone
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != 2 {
		t.Errorf("%d jobs follow, want the 2 creates that fit: %+v", len(jobs), jobs)
	}
	got := map[broker.NodeState]int{}
	err = store.View(t.Context(), func(tx broker.ReadTx) error {
		nodes, err := tx.Nodes(broker.NodeQuery{})
		for _, n := range nodes {
			got[n.State]++
		}
		if err != nil {
			return err
		}
		s, err := tx.Session(session.ID)
		if s.State != broker.SessionActive {
			t.Errorf("the session is %s", s.State)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[broker.NodeState]int{broker.NodeDeployed: 1, broker.NodeReady: 1, broker.NodeApplying: 2}, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

// Work that ends after its node has moved on changes nothing.
func TestResultOfAnOldState(t *testing.T) {
	store := memory.New()
	loop := New(Config{Store: store, Log: slog.New(slog.DiscardHandler)})
	n := broker.NewNode(testPool("a", 1, 1), t0)
	n.State = broker.NodeReady
	if err := store.Update(t.Context(), func(tx broker.Tx) error { n.ID = 0; return tx.CreateNode(&n) }); err != nil {
		t.Fatal(err)
	}
	old := n
	old.State = broker.NodeChecking
	_, err := loop.update(t.Context(), old, func(broker.Tx, *broker.Node) error {
		t.Error("the result would be written")
		return nil
	})
	if !broker.IsTransition(err) {
		t.Errorf("got %v, want a transition error", err)
	}
}

// Whoever asks for a node between a plan and its commit has it: of what was
// planned only the tenant's key still goes. And a hold that was taken back
// meanwhile does not come into effect.
func TestCommitOfAHold(t *testing.T) {
	store, pools := memory.New(), new(broker.PoolSet)
	p := testPool("a", 2, 20)
	pools.Set([]broker.Pool{p})
	loop := New(Config{Store: store, Pools: pools, Log: slog.New(slog.DiscardHandler)})
	tests := []struct {
		kind  Kind
		state broker.NodeState
		asked bool
		want  bool // it is carried out
	}{
		{CheckNode, broker.NodeChecking, true, false},
		{ReleaseNode, broker.NodeChecking, true, false},
		{DestroyNode, broker.NodeReleasing, true, false},
		{DestroyNode, broker.NodeFailed, true, false},
		{DestroyNode, broker.NodeDestroying, true, false},
		{RevokeNode, broker.NodeReleasing, true, true},
		{HoldNode, broker.NodeFailed, true, true},
		{HoldNode, broker.NodeFailed, false, false},
		{DestroyNode, broker.NodeFailed, false, true},
	}
	for _, test := range tests {
		n := broker.NewNode(p, t0)
		n.State, n.Touched = test.state, test.kind == RevokeNode
		if test.asked {
			n.Hold = &broker.Hold{By: "admin", Since: t0, From: test.state}
		}
		if err := store.Update(t.Context(), func(tx broker.Tx) error { n.ID = 0; return tx.CreateNode(&n) }); err != nil {
			t.Fatal(err)
		}
		jobs, err := loop.commit(t.Context(), t0, []Action{{Kind: test.kind, Pool: "a", NodeID: n.ID, State: test.state}})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(jobs) == 1; got != test.want {
			t.Errorf("%s of a %s node, asked for: %t: carried out: %t", test.kind, test.state, test.asked, got)
		}
	}
}

// Work that ended while the plan was made left the state as it was: the plan's
// action is not carried out a second time.
func TestCommitAfterTheWork(t *testing.T) {
	store := memory.New()
	loop := New(Config{Store: store, Pools: new(broker.PoolSet), Log: slog.New(slog.DiscardHandler)})
	p := testPool("a", 1, 4)
	clean, tried := broker.NewNode(p, t0), broker.NewNode(p, t0)
	clean.State = broker.NodeReleasing
	tried.State, tried.Attempts, tried.RetryAt = broker.NodeDestroying, 1, t0.Add(time.Minute)
	err := store.Update(t.Context(), func(tx broker.Tx) error {
		clean.ID, tried.ID = 0, 0
		return errors.Join(tx.CreateNode(&clean), tx.CreateNode(&tried))
	})
	if err != nil {
		t.Fatal(err)
	}
	actions := []Action{
		{Kind: RevokeNode, Pool: "a", NodeID: clean.ID, State: clean.State},
		{Kind: DestroyNode, Pool: "a", NodeID: tried.ID, State: tried.State},
	}
	for at, want := range map[time.Time]int{t0: 0, t0.Add(time.Hour): 1} {
		if jobs, err := loop.commit(t.Context(), at, actions); err != nil || len(jobs) != want {
			t.Errorf("at %v: %d jobs, want %d (%v)", at, len(jobs), want, err)
		}
	}
}
