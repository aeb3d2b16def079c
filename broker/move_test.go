package broker_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
)

// pool gives the nodes of a pool by state, and what is remembered of its health.
func (w *world) pool(name string) (states map[broker.NodeState]int, health broker.PoolHealth) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx broker.ReadTx) (err error) {
		if states, err = tx.CountNodes(name); err != nil {
			return err
		}
		health, err = tx.PoolHealth(name)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return states, health
}

func (w *world) moves(after int64) (events []broker.Event) {
	w.t.Helper()
	events, _, err := w.b.Events(context.Background(), w.admin, after)
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(events, func(e broker.Event) bool { return e.Kind != broker.EventPool })
}

func TestMovePools(t *testing.T) {
	w := newWorld(t, 0)
	ctx := t.Context()
	err := w.store.Update(ctx, func(tx broker.Tx) error {
		for _, state := range broker.NodeStates() {
			for _, pool := range []string{"small", "large"} {
				n := broker.NewNode(testPool(pool, broker.ContextualizeSSH), t0)
				n.State = state
				if err := tx.CreateNode(&n); err != nil {
					return err
				}
			}
		}
		for _, h := range []broker.PoolHealth{{Pool: "small", Failures: 3, Message: "no"}, {Pool: "b", Failures: 2}, {Pool: "c", Failures: 1}} {
			if err := tx.SetPoolHealth(h); err != nil {
				return err
			}
		}
		return tx.SetRollout(broker.Rollout{Pool: "small", State: broker.RolloutPaused, Generation: "g1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	last, err := w.b.LastEvent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	moves := []broker.Move{{From: "small", To: "tiny"}, {From: "b", To: "c"}, {From: "nothing", To: "anything"}}
	if err := w.b.MovePools(ctx, moves); err != nil {
		t.Fatal(err)
	}

	states, health := w.pool("tiny")
	if len(states) != len(broker.NodeStates()) {
		t.Errorf("states under the new name %v, want one node of each", states)
	}
	if want := (broker.PoolHealth{Pool: "tiny", Failures: 3, Message: "no"}); !cmp.Equal(health, want) {
		t.Errorf("health under the new name %+v, want %+v", health, want)
	}
	if states, health = w.pool("small"); len(states) != 0 || health.Failures != 0 {
		t.Errorf("nodes %v and health %+v are left under the old name", states, health)
	}
	rollouts := make(map[string]broker.Rollout)
	err = w.store.View(ctx, func(tx broker.ReadTx) error {
		for _, pool := range []string{"small", "tiny"} {
			r, err := tx.Rollout(pool)
			if err != nil {
				return err
			}
			rollouts[pool] = r
		}
		return nil
	})
	want := map[string]broker.Rollout{"small": {Pool: "small"}, "tiny": {Pool: "tiny", State: broker.RolloutPaused, Generation: "g1"}}
	if diff := cmp.Diff(want, rollouts); diff != "" || err != nil {
		t.Errorf("rollouts: %v (-want +got):\n%s", err, diff)
	}
	if states, _ = w.pool("large"); len(states) != len(broker.NodeStates()) {
		t.Errorf("another pool has %v, want one node of each state", states)
	}
	if _, health = w.pool("c"); health.Failures != 1 {
		t.Errorf("a pool with failures of its own has %d, want 1", health.Failures)
	}
	wantEvents := []broker.Event{
		{At: t0, Kind: broker.EventPool, Pool: "tiny", From: "small", To: "tiny", Message: `renamed from "small", with 13 nodes`},
		{At: t0, Kind: broker.EventPool, Pool: "c", From: "b", To: "c", Message: `renamed from "b", with 0 nodes`},
	}
	got := w.moves(last)
	for i := range got {
		got[i].Seq = 0
	}
	if diff := cmp.Diff(wantEvents, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	// Once more, as at each reload: nothing is left to do, and nothing is written.
	if last, err = w.b.LastEvent(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.b.MovePools(ctx, moves); err != nil {
		t.Fatal(err)
	}
	if now, err := w.b.LastEvent(ctx); err != nil || now != last {
		t.Errorf("a second call has written events %d to %d, %v", last+1, now, err)
	}
}

// A store that fails, before or after the commit, leaves all of a move or nothing,
// and a second try completes it.
func TestMovePools_storeFails(t *testing.T) {
	for _, test := range []struct {
		when fault.When
		left int // nodes under the old name
	}{{fault.Before, 3}, {fault.After, 0}} {
		w := newWorld(t, 3)
		w.fault.RunTwice()
		w.fault.FailUpdate(1, test.when, errors.New("disk"))
		moves := []broker.Move{{From: "small", To: "tiny"}, {From: "plain", To: "simple"}}
		if err := w.b.MovePools(t.Context(), moves); err == nil {
			t.Fatal("no error from a store that fails")
		}
		for _, name := range []string{"small", "plain"} {
			if states, _ := w.pool(name); states[broker.NodeReady] != test.left {
				t.Errorf("failure %v: %s has %v after it, want %d ready nodes", test.when, name, states, test.left)
			}
		}
		if err := w.b.MovePools(t.Context(), moves); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"tiny", "simple"} {
			if states, _ := w.pool(name); states[broker.NodeReady] != 3 {
				t.Errorf("failure %v: %s has %v in the end, want 3 ready nodes", test.when, name, states)
			}
		}
	}
}
