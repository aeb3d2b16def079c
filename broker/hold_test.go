package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
)

// nodeIn stores a node in a state, with a Terraform state if it has had one.
func (w *world) nodeIn(state broker.NodeState, hold *broker.Hold) broker.Node {
	w.t.Helper()
	n := broker.NewNode(testPool("small", broker.ContextualizeSSH), t0)
	n.State, n.Hold = state, hold
	err := w.store.Update(context.Background(), func(tx broker.Tx) error {
		n.ID = 0
		if err := tx.CreateNode(&n); err != nil {
			return err
		}
		return tx.SetNodeTerraform(n.UID, []byte("stored"))
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) node(id int64) (n broker.Node, terraform string) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx broker.ReadTx) (err error) {
		if n, err = tx.Node(id); err != nil {
			return err
		}
		sealed, err := tx.NodeTerraform(n.UID)
		terraform = string(sealed)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n, terraform
}

// lastEvent gives the newest event as one line.
func (w *world) lastEvent() string {
	w.t.Helper()
	var last string
	err := w.store.View(context.Background(), func(tx broker.ReadTx) error {
		events, err := tx.Events(0, 1000)
		if len(events) > 0 {
			e := events[len(events)-1]
			last = fmt.Sprintf("%s -> %s %s", e.From, e.To, e.Message)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return last
}

func TestHoldNode(t *testing.T) {
	earlier := &broker.Hold{Reason: "mine", By: "boss", Since: t0, From: broker.NodeReady}
	fresh := func(from broker.NodeState) *broker.Hold {
		return &broker.Hold{Reason: "why", By: "admin", Since: t0, From: from}
	}
	tests := map[broker.NodeState]struct {
		code  broker.Code
		hint  string
		held  bool
		hold  *broker.Hold
		event string
	}{
		broker.NodePlanned:         {code: broker.CodeConflict, hint: "node logs -f"},
		broker.NodeApplying:        {code: broker.CodeConflict, hint: "node logs -f"},
		broker.NodeReady:           {held: true, hold: fresh(broker.NodeReady), event: "ready -> held held by admin: why"},
		broker.NodeReserved:        {code: broker.CodeConflict, hint: "retire that session"},
		broker.NodeContextualizing: {code: broker.CodeConflict, hint: "retire that session"},
		broker.NodeDeployed:        {code: broker.CodeConflict, hint: "retire that session"},
		broker.NodeLost:            {code: broker.CodeConflict, hint: "retire that session"},
		broker.NodeHeld:            {held: true, hold: earlier},
		broker.NodeGone:            {code: broker.CodeConflict},
		// Nobody works on them here, so nobody ever ends that work.
		broker.NodeChecking:   {code: broker.CodeUnavailable, hint: "node release", hold: fresh(broker.NodeChecking), event: "checking -> checking to be held by admin: why"},
		broker.NodeReleasing:  {code: broker.CodeUnavailable, hint: "node release", hold: fresh(broker.NodeReleasing), event: "releasing -> releasing to be held by admin: why"},
		broker.NodeFailed:     {code: broker.CodeUnavailable, hint: "node release", hold: fresh(broker.NodeFailed), event: "failed -> failed to be held by admin: why"},
		broker.NodeDestroying: {code: broker.CodeUnavailable, hint: "node release", hold: fresh(broker.NodeDestroying), event: "destroying -> destroying to be held by admin: why"},
	}
	for _, state := range broker.NodeStates() {
		t.Run(string(state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test, ok := tests[state]
				if !ok {
					t.Fatal("what is to become of a node in this state?")
				}
				w := newWorld(t, 0)
				before := w.nodeIn(state, nil)
				if state == broker.NodeHeld {
					before = w.nodeIn(state, earlier)
				}
				got, err := w.b.HoldNode(t.Context(), w.admin, before.ID, "why")
				if broker.CodeOf(err) != test.code || !strings.Contains(broker.HintOf(err), test.hint) {
					t.Errorf("got %s: %v (%s), want %s: %s", broker.CodeOf(err), err, broker.HintOf(err), test.code, test.hint)
				}
				after, _ := w.node(before.ID)
				if held := after.State == broker.NodeHeld; held != test.held || !held && after.State != state {
					t.Errorf("the node is %s", after.State)
				}
				if diff := cmp.Diff(test.hold, after.Hold); diff != "" {
					t.Errorf("hold (-want +got):\n%s", diff)
				}
				if err == nil && !cmp.Equal(got, after) {
					t.Errorf("got %+v, stored is %+v", got, after)
				}
				if got := w.lastEvent(); test.event != "" && got != test.event {
					t.Errorf("event %q, want %q", got, test.event)
				}
			})
		})
	}
	w := newWorld(t, 1)
	if _, err := w.b.HoldNode(t.Context(), w.demo, 1, ""); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("a tenant gets %v", err)
	}
	if _, err := w.b.HoldNode(t.Context(), w.admin, 99, ""); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("an unknown node gives %v", err)
	}
}

func TestReleaseHold(t *testing.T) {
	tests := []struct {
		state, from, want broker.NodeState
		asked             bool
		code              broker.Code
	}{
		{state: broker.NodeHeld, asked: true, from: broker.NodeReady, want: broker.NodeChecking},
		{state: broker.NodeHeld, asked: true, from: broker.NodeChecking, want: broker.NodeChecking},
		{state: broker.NodeHeld, asked: true, from: broker.NodeFailed, want: broker.NodeDestroying},
		{state: broker.NodeHeld, asked: true, from: broker.NodeReleasing, want: broker.NodeDestroying},
		{state: broker.NodeHeld, asked: true, from: broker.NodeDestroying, want: broker.NodeDestroying},
		{state: broker.NodeDestroying, asked: true, from: broker.NodeDestroying, want: broker.NodeDestroying},
		{state: broker.NodeChecking, asked: true, from: broker.NodeChecking, want: broker.NodeChecking},
		{state: broker.NodeReady, want: broker.NodeReady, code: broker.CodeConflict},
		{state: broker.NodeDeployed, want: broker.NodeDeployed, code: broker.CodeConflict},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s from %s", test.state, test.from), func(t *testing.T) {
			w := newWorld(t, 0)
			var hold *broker.Hold
			if test.asked {
				hold = &broker.Hold{By: "admin", Since: t0, From: test.from}
			}
			n := w.nodeIn(test.state, hold)
			if _, err := w.b.ReleaseHold(t.Context(), w.demo, n.ID); broker.CodeOf(err) != broker.CodeForbidden {
				t.Errorf("a tenant gets %v", err)
			}
			got, err := w.b.ReleaseHold(t.Context(), w.admin, n.ID)
			if broker.CodeOf(err) != test.code {
				t.Errorf("got %v, want code %q", err, test.code)
			}
			after, terraform := w.node(n.ID)
			if after.State != test.want || after.Hold != nil || terraform != "stored" || err == nil && !cmp.Equal(got, after) {
				t.Errorf("got %+v, stored is %+v with state %q; want it %s", got, after, terraform, test.want)
			}
		})
	}
}

// Where no loop runs, a hold is noted and nothing waits for it.
func TestAskForHold(t *testing.T) {
	for state, want := range map[broker.NodeState]broker.NodeState{
		broker.NodeReady: broker.NodeHeld, broker.NodeDestroying: broker.NodeDestroying, broker.NodeFailed: broker.NodeFailed,
	} {
		w := newWorld(t, 0)
		n := w.nodeIn(state, nil)
		if _, err := w.b.AskForHold(t.Context(), w.demo, n.ID, "why"); broker.CodeOf(err) != broker.CodeForbidden {
			t.Errorf("a tenant gets %v", err)
		}
		got, err := w.b.AskForHold(t.Context(), w.admin, n.ID, "why")
		if after, _ := w.node(n.ID); err != nil || after.State != want || after.Hold == nil || after.Hold.By != "admin" || !cmp.Equal(got, after) {
			t.Errorf("%s: got %+v, %v, stored is %+v", state, got, err, after)
		}
	}
	w := newWorld(t, 0)
	if _, err := w.b.AskForHold(t.Context(), w.admin, w.nodeIn(broker.NodeApplying, nil).ID, ""); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("a node that is being made: %v", err)
	}
}

// desk is a place for workspaces in memory. A state is its own seal, and its
// length its serial: longer ones are newer.
type desk struct {
	dirs   map[string]*paper // by uid
	refuse error             // why Return takes nothing
	busy   error             // why directories stay
}

type paper struct {
	hold  time.Time
	state string
}

func (d *desk) Checkout(n broker.Node, sealed []byte) (string, error) {
	if !d.HasWorkspace(n) {
		d.dirs[n.UID] = &paper{hold: n.Hold.Since, state: string(sealed)}
	}
	return "/desk/" + n.UID, nil
}

func (d *desk) HasWorkspace(n broker.Node) bool {
	p := d.dirs[n.UID]
	return p != nil && n.Hold != nil && p.hold.Equal(n.Hold.Since)
}

func (d *desk) Return(n broker.Node, sealed []byte) (broker.WorkspaceState, error) {
	state := d.dirs[n.UID].state
	if d.refuse != nil {
		return broker.WorkspaceState{}, d.refuse
	}
	if len(state) < len(sealed) {
		return broker.WorkspaceState{}, errors.New("older")
	}
	return broker.WorkspaceState{
		State: []byte(state), Resources: 1 - strings.Count(state, "empty"), Newer: len(state) > len(sealed),
	}, nil
}

func (d *desk) DiscardWorkspace(n broker.Node) error {
	if d.busy == nil {
		delete(d.dirs, n.UID)
	}
	return d.busy
}

func (d *desk) Workspaces() ([]string, error) { return slices.Sorted(maps.Keys(d.dirs)), nil }

// withDesk gives the world a broker with workspaces, as after a restart.
func (w *world) withDesk(d *desk) {
	w.b = broker.New(broker.Config{
		Store: w.store, Contextualizer: w.cloud, Keys: plainKeys{}, Pools: new(broker.PoolSet), Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return t0 }, Wake: func() {}, Workspaces: d,
	})
}

func TestWorkspace(t *testing.T) {
	tests := []struct {
		name    string
		from    broker.NodeState
		work    string // the state in the workspace, "" for what it was
		discard bool
		refuse  error
		busy    error
		want    broker.NodeState
		state   string
		code    broker.Code
	}{
		{name: "nothing was done to stock", from: broker.NodeReady, want: broker.NodeChecking, state: "stored"},
		{name: "stock was mended", from: broker.NodeReady, work: "stored+", want: broker.NodeChecking, state: "stored+"},
		{name: "stock was destroyed", from: broker.NodeReady, work: "stored, empty", want: broker.NodeDestroying, state: "stored, empty"},
		{name: "failed, nothing was done", from: broker.NodeFailed, want: broker.NodeDestroying, state: "stored"},
		{name: "failed, part was destroyed", from: broker.NodeDestroying, work: "stored+", want: broker.NodeDestroying, state: "stored+"},
		{name: "discarded", from: broker.NodeReady, work: "stored, empty", discard: true, want: broker.NodeChecking, state: "stored"},
		{name: "damaged", from: broker.NodeReady, refuse: broker.Errorf(broker.CodeConflict, "it is damaged"), want: broker.NodeHeld, state: "stored", code: broker.CodeConflict},
		{name: "damaged and discarded", from: broker.NodeReady, refuse: broker.Errorf(broker.CodeConflict, "it is damaged"), discard: true, want: broker.NodeChecking, state: "stored"},
		{name: "discarded at work", from: broker.NodeReady, discard: true, busy: broker.Errorf(broker.CodeConflict, "at work"), want: broker.NodeHeld, state: "stored", code: broker.CodeConflict},
		{name: "can't be removed", from: broker.NodeReady, busy: errors.New("read-only"), want: broker.NodeChecking, state: "stored"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, d := newWorld(t, 0), &desk{dirs: map[string]*paper{}}
			w.withDesk(d)
			n := w.nodeIn(broker.NodeHeld, &broker.Hold{By: "admin", Since: t0, From: test.from})
			if _, _, err := w.b.OpenWorkspace(t.Context(), w.demo, n.ID, ""); broker.CodeOf(err) != broker.CodeForbidden {
				t.Errorf("a tenant gets %v", err)
			}
			if _, err := w.b.ReturnWorkspace(t.Context(), w.admin, n.ID, false); broker.CodeOf(err) != broker.CodeConflict || !strings.Contains(broker.HintOf(err), "node release") {
				t.Errorf("returned before it was opened: %v", err)
			}
			for range 2 {
				got, dir, err := w.b.OpenWorkspace(t.Context(), w.admin, n.ID, "")
				if err != nil || dir != "/desk/"+n.UID || got.State != broker.NodeHeld {
					t.Fatalf("got %+v, %q, %v", got, dir, err)
				}
				if test.work != "" {
					d.dirs[n.UID].state = test.work
				}
			}
			if test.work != "" && d.dirs[n.UID].state != test.work {
				t.Errorf("opening it again lost what was done in it: %q", d.dirs[n.UID].state)
			}
			if _, err := w.b.ReleaseHold(t.Context(), w.admin, n.ID); broker.CodeOf(err) != broker.CodeConflict || !strings.Contains(broker.HintOf(err), "--return") {
				t.Errorf("released with a workspace: %v", err)
			}
			if _, err := w.b.ReturnWorkspace(t.Context(), w.demo, n.ID, false); broker.CodeOf(err) != broker.CodeForbidden {
				t.Errorf("a tenant gets %v", err)
			}
			d.refuse, d.busy = test.refuse, test.busy
			_, err := w.b.ReturnWorkspace(t.Context(), w.admin, n.ID, test.discard)
			if broker.CodeOf(err) != test.code {
				t.Errorf("got %v, want code %q", err, test.code)
			}
			after, state := w.node(n.ID)
			if after.State != test.want || state != test.state {
				t.Errorf("the node is %s with state %q, want %s with %q", after.State, state, test.want, test.state)
			}
			if there := d.HasWorkspace(after) || len(d.dirs) > 0; there != (test.code != "" || test.busy != nil) {
				t.Errorf("the workspace is there: %t", there)
			}
		})
	}
}

// A ready node that is taken away is no stock from the same commit on.
func TestHeldNodesAreNotLent(t *testing.T) {
	w := newWorld(t, 2)
	if _, err := w.b.HoldNode(t.Context(), w.admin, 1, ""); err != nil {
		t.Fatal(err)
	}
	pool := w.stock()[0].Pool
	_, levels, err := w.b.Pool(t.Context(), pool)
	if err != nil || levels.Ready != 1 || levels.Deployed != 1 {
		t.Errorf("levels %+v, %v", levels, err)
	}
	s, err := w.b.RequestSession(t.Context(), w.demo, want(pool, 1))
	if err != nil || s.Nodes[0].ID == 1 {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := w.b.RequestSession(t.Context(), w.demo, want(pool, 1)); broker.CodeOf(err) != broker.CodeCapacity {
		t.Errorf("got %v, want no capacity", err)
	}
}

func (w *world) stock() []broker.Node {
	w.t.Helper()
	nodes, err := w.b.Nodes(context.Background(), w.admin)
	if err != nil {
		w.t.Fatal(err)
	}
	return nodes
}

// Whichever commit fails, before or after it was made: what was done in the
// workspace is either still there, or in the store, and a repetition ends well.
func TestWorkspaceSurvivesFaults(t *testing.T) {
	for _, when := range []fault.When{fault.Before, fault.After} {
		for at := 1; at <= 2; at++ {
			t.Run(fmt.Sprintf("%d/%d", when, at), func(t *testing.T) {
				w, d := newWorld(t, 0), &desk{dirs: map[string]*paper{}}
				w.withDesk(d)
				n := w.nodeIn(broker.NodeReady, nil)
				w.fault.FailUpdate(at, when, errors.New("disk full"))
				open := func() error {
					_, _, err := w.b.OpenWorkspace(t.Context(), w.admin, n.ID, "")
					return err
				}
				if err := open(); (err != nil) != (at == 1) {
					t.Fatalf("opened: %v", err)
				}
				if err := open(); at == 1 && err != nil {
					t.Fatalf("opened again: %v", err)
				}
				d.dirs[n.UID].state = "stored, empty"
				_, err := w.b.ReturnWorkspace(t.Context(), w.admin, n.ID, false)
				after, state := w.node(n.ID)
				switch {
				case err == nil:
				case after.State == broker.NodeHeld:
					if !d.HasWorkspace(after) || d.dirs[n.UID].state != "stored, empty" {
						t.Fatalf("the work is lost: %+v", d.dirs[n.UID])
					}
					w.withDesk(d)
					if err := w.b.TidyWorkspaces(t.Context()); err != nil {
						t.Fatal(err)
					}
					if _, err := w.b.ReturnWorkspace(t.Context(), w.admin, n.ID, false); err != nil {
						t.Fatalf("returned again: %v", err)
					}
					after, state = w.node(n.ID)
				default: // committed, and the directory left
					w.withDesk(d)
					if err := w.b.TidyWorkspaces(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if after.State != broker.NodeDestroying || state != "stored, empty" || len(d.dirs) != 0 {
					t.Errorf("the node is %s with state %q, directories %v", after.State, state, d.dirs)
				}
			})
		}
	}
}

// Directories are removed once nobody can want them, and only then.
func TestTidyWorkspaces(t *testing.T) {
	tests := []struct {
		name  string
		state broker.NodeState
		hold  *broker.Hold
		paper paper
		stays bool
	}{
		{"of a held node", broker.NodeHeld, &broker.Hold{Since: t0}, paper{t0, "stored"}, true},
		{"of an earlier hold", broker.NodeHeld, &broker.Hold{Since: t0.Add(time.Hour)}, paper{t0, "stored"}, false},
		{"returned", broker.NodeChecking, nil, paper{t0, "stored"}, false},
		{"with something newer", broker.NodeChecking, nil, paper{t0, "stored+"}, true},
		{"with something older: it can't be told", broker.NodeReady, nil, paper{t0, "old"}, true},
		{"of a node that is gone", broker.NodeGone, nil, paper{t0, "old"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, d := newWorld(t, 0), &desk{dirs: map[string]*paper{}}
			w.withDesk(d)
			n := w.nodeIn(test.state, test.hold)
			d.dirs[n.UID], d.dirs["unheard-of"] = &test.paper, &paper{state: "x"}
			if err := w.b.TidyWorkspaces(t.Context()); err != nil {
				t.Fatal(err)
			}
			if stays := d.dirs[n.UID] != nil; stays != test.stays {
				t.Errorf("it stays: %t", stays)
			}
			if d.dirs["unheard-of"] == nil {
				t.Error("that of a node that the store does not know is removed")
			}
		})
	}
}
