package broker_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// interruption is what a spot instance says.
func interruption() broker.Notice {
	return broker.Notice{Kind: "interruption", Action: "terminate", At: t0.Add(2 * time.Minute)}
}

// A notice takes a node out of stock, and never out of somebody's hands.
func TestNotifyInEachState(t *testing.T) {
	b, _, store, nodes, _ := bootWorld(t)
	for _, n := range nodes {
		want := n.State
		if want == broker.NodeReady {
			want = broker.NodeReleasing
		}
		for i := range 2 {
			notice := interruption()
			notice.At = notice.At.Add(time.Duration(i) * time.Hour) // another one
			first, err := b.Notify(t.Context(), n, notice)
			if err != nil || first != (i == 0 && n.State != broker.NodeGone) {
				t.Errorf("%s, notice %d: first %t, %v", n.State, i, first, err)
			}
		}
		var got broker.Node
		var events []broker.Event
		err := store.View(t.Context(), func(tx broker.ReadTx) (err error) {
			if got, err = tx.Node(n.ID); err != nil {
				return err
			}
			all, err := tx.Events(0, 100)
			for _, e := range all {
				if e.NodeID == n.ID {
					events = append(events, e)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n.State == broker.NodeGone {
			if got.Interruption != nil || len(events) > 0 {
				t.Errorf("gone: %+v, %v", got.Interruption, events)
			}
			continue
		}
		if diff := cmp.Diff(&broker.Interruption{Action: "terminate", At: t0.Add(2 * time.Minute), Noticed: t0}, got.Interruption); diff != "" || got.State != want {
			t.Errorf("%s is %s then, want %s (-want +got):\n%s", n.State, got.State, want, diff)
		}
		if len(events) != 1 || events[0].From != string(n.State) || events[0].To != string(want) || events[0].Message != "it will be interrupted (terminate) at 2026-11-24T12:02:00Z" {
			t.Errorf("%s: events %+v", n.State, events)
		}
	}
}

func TestNotifyRefuses(t *testing.T) {
	b, _, _, nodes, _ := bootWorld(t)
	for _, bad := range []broker.Notice{
		{}, {Kind: "greeting"}, {Kind: "interruption", Action: "Terminate"}, {Kind: "interruption", Action: "a b"}, {Kind: "interruption", Action: strings.Repeat("x", 33)},
		{Kind: "interruption", At: time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -7200))}, // JSON has four digits for a year
	} {
		if first, err := b.Notify(t.Context(), nodes[0], bad); broker.CodeOf(err) != broker.CodeInvalid || first {
			t.Errorf("%+v: %t, %v", bad, first, err)
		}
	}
	if _, err := b.Notify(t.Context(), broker.Node{ID: 99}, interruption()); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("a node that has been forgotten: %v", err)
	}
	if first, err := b.Notify(t.Context(), nodes[1], broker.Notice{Kind: "interruption", At: t0.In(time.FixedZone("", 86400))}); err != nil || !first { // nor has JSON such zones
		t.Errorf("a strange zone: %t, %v", first, err)
	}
	if first, err := b.Notify(t.Context(), nodes[0], broker.Notice{Kind: "interruption"}); err != nil || !first {
		t.Errorf("as little as can be said: %t, %v", first, err)
	}
}

// A lent node stays its tenant's, who hears of it.
func TestNotifyOfALentNode(t *testing.T) {
	w := newWorld(t, 2)
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.b.Node(t.Context(), w.demo, s.Nodes[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Notify(t.Context(), n, interruption()); err != nil {
		t.Fatal(err)
	}
	if n, err = w.b.Node(t.Context(), w.demo, n.ID); err != nil || n.State != broker.NodeDeployed || n.Interruption == nil {
		t.Errorf("the node is %s, %+v, %v", n.State, n.Interruption, err)
	}
	events, err := w.b.SessionEvents(t.Context(), w.demo, s.ID, 0, 100)
	if err != nil || !strings.Contains(events[len(events)-1].Message, "it will be interrupted (terminate)") {
		t.Errorf("events of the session: %+v, %v", events, err)
	}
	streamed, _, err := w.b.Events(t.Context(), w.demo, events[len(events)-1].Seq-1)
	if err != nil || len(streamed) != 1 {
		t.Errorf("its tenant's stream: %+v, %v", streamed, err)
	}
}

// noticing has a node say that it goes away while its key is being written.
type noticing struct {
	broker.Contextualizer

	notify func(broker.Node)
}

func (c noticing) Contextualize(ctx context.Context, n broker.Node, keys string) error {
	c.notify(n)
	return c.Contextualizer.Contextualize(ctx, n, keys)
}

// What will be interrupted is not handed out: not from stock, and not if the notice
// comes at the last moment.
func TestInterruptedNodesAreNeverHandedOut(t *testing.T) {
	w := newWorld(t, 3)
	var said []int64
	var b *broker.Broker
	b = broker.New(broker.Config{
		Store: w.store, Keys: plainKeys{}, Pools: w.pools, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return t0 }, Wake: func() {},
		Contextualizer: noticing{w.cloud, func(n broker.Node) {
			if len(said) < 2 {
				said = append(said, n.ID)
				if _, err := b.Notify(t.Context(), n, interruption()); err != nil {
					t.Error(err)
				}
			}
		}},
	})
	s, err := b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err != nil {
		t.Fatal(err)
	}
	if len(said) != 2 || len(s.Nodes) != 1 || s.State != broker.SessionActive || s.Nodes[0].ID == said[0] || s.Nodes[0].ID == said[1] {
		t.Errorf("session %d is %s with %+v; nodes %v will be interrupted", s.ID, s.State, s.Nodes, said)
	}
	for _, id := range said {
		if n, err := b.Node(t.Context(), w.admin, id); err != nil || n.State != broker.NodeFailed {
			t.Errorf("node %d is %s, %v", id, n.State, err)
		}
	}
	// In stock, though that can't be: a notice takes it out.
	n := w.addReady(testPool("small", broker.ContextualizeSSH))
	n.Interruption = &broker.Interruption{Action: "terminate", Noticed: t0}
	update(t, w.store, func(tx broker.Tx) error { return tx.UpdateNode(n.State, n) })
	if _, err := b.RequestSession(t.Context(), w.demo, want("small", 1)); broker.CodeOf(err) != broker.CodeCapacity {
		t.Errorf("a request that only it could serve: %v", err)
	}
}
