package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/bolt"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// watched is a store that counts what is read of it.
type watched struct {
	broker.Store

	lists, records int
	ignorant       bool  // it knows of no changes
	fails          error // of each View, after its function
}

func (w *watched) View(ctx context.Context, fn func(broker.ReadTx) error) error {
	return w.Store.View(ctx, func(tx broker.ReadTx) error { return errors.Join(fn(watchedTx{tx, w}), w.fails) })
}

type watchedTx struct {
	broker.ReadTx

	w *watched
}

func (t watchedTx) Nodes(q broker.NodeQuery) ([]broker.Node, error) {
	t.w.lists++
	return t.ReadTx.Nodes(q)
}

func (t watchedTx) Sessions(q broker.SessionQuery) ([]broker.Session, error) {
	t.w.lists++
	return t.ReadTx.Sessions(q)
}

func (t watchedTx) Node(id int64) (broker.Node, error) {
	t.w.records++
	return t.ReadTx.Node(id)
}

func (t watchedTx) Session(id int64) (broker.Session, error) {
	t.w.records++
	return t.ReadTx.Session(id)
}

func (t watchedTx) Changes(since broker.Version) (broker.Changes, error) {
	if t.w.ignorant {
		return broker.Changes{}, nil
	}
	return t.ReadTx.Changes(since)
}

// Whatever is written, and whenever it is looked at, the mirror is as the store.
func TestMirrorFollows(t *testing.T) {
	dir, files := t.TempDir(), 0
	for name, open := range map[string]func(t rapid.TB) broker.Store{
		"memory": func(rapid.TB) broker.Store { return memory.New() },
		"bolt": func(t rapid.TB) broker.Store {
			files++
			s, err := bolt.Open(filepath.Join(dir, fmt.Sprint(files)), bolt.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				w := &watched{Store: open(rt)}
				defer func() { _ = w.Close() }()
				follow(rt, w)
			})
		})
	}
}

// known takes an error as none if it says that a record is not there.
func known(err error) error {
	if broker.CodeOf(err) == broker.CodeNotFound {
		return nil
	}
	return err
}

func follow(t *rapid.T, w *watched) {
	ctx := context.Background()
	var m mirror
	nodeState := rapid.SampledFrom(broker.NodeStates())
	sessionState := rapid.SampledFrom([]broker.SessionState{broker.SessionPreparing, broker.SessionActive, broker.SessionRetired, broker.SessionAbandoned})
	var nodes, sessions int64
	change := func(t *rapid.T) func(broker.Tx) error {
		kind, ns, ss, at := rapid.IntRange(0, 4).Draw(t, "kind"), nodeState.Draw(t, "node"), sessionState.Draw(t, "session"), t0.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "s"))*time.Second)
		node, session := rapid.Int64Range(1, nodes+1).Draw(t, "id"), rapid.Int64Range(1, sessions+1).Draw(t, "id")
		return func(tx broker.Tx) error {
			switch kind {
			case 0:
				n := broker.NewNode(testPool("a", 1, 1), at)
				n.State = ns
				return tx.CreateNode(&n)
			case 1:
				n, err := tx.Node(node)
				if err != nil {
					return known(err)
				}
				from := n.State
				n.State, n.RetryAt, n.HostKeys = ns, at, []string{"k"}
				return tx.UpdateNode(from, n)
			case 2:
				n, err := tx.Node(node)
				if err != nil || n.State != broker.NodeGone {
					return known(err)
				}
				return tx.DeleteNode(node)
			case 3:
				return tx.CreateSession(&broker.Session{TenantID: 1, State: ss, ExpiresAt: at, Nodes: []broker.LentNode{{ID: node}}})
			}
			s, err := tx.Session(session)
			if err != nil {
				return known(err)
			}
			from := s.State
			s.State, s.ExpiresAt = ss, at
			return tx.UpdateSession(from, s)
		}
	}
	undone := errors.New("undone")
	t.Repeat(map[string]func(*rapid.T){
		"write": func(t *rapid.T) {
			var changes []func(broker.Tx) error
			for range rapid.IntRange(1, 5).Draw(t, "changes") {
				changes = append(changes, change(t))
			}
			var want error
			if rapid.IntRange(0, 4).Draw(t, "undo") == 0 {
				want = undone
			}
			err := w.Update(ctx, func(tx broker.Tx) error {
				for _, c := range changes {
					if err := c(tx); err != nil {
						return err
					}
				}
				return want
			})
			if !errors.Is(err, want) {
				t.Fatal(err)
			}
			err = w.View(ctx, func(tx broker.ReadTx) error {
				all, err := tx.Nodes(broker.NodeQuery{})
				for _, n := range all {
					nodes = max(nodes, n.ID)
				}
				some, err2 := tx.Sessions(broker.SessionQuery{})
				sessions = int64(len(some))
				return errors.Join(err, err2)
			})
			if err != nil {
				t.Fatal(err)
			}
		},
		"a read that fails": func(t *rapid.T) {
			w.fails = errors.New("no")
			if _, err := m.read(ctx, w, &World{}, t0, time.Hour); err == nil {
				t.Error("no error")
			}
			w.fails = nil
		},
		"a store that knows nothing": func(t *rapid.T) {
			w.ignorant = rapid.Bool().Draw(t, "ignorant")
		},
		"read": func(t *rapid.T) {
			// Verified, it would be mended before it is looked at here.
			verify := time.Hour
			if rapid.IntRange(0, 3).Draw(t, "verify") == 0 {
				verify = 0
			}
			var got World
			wrong, err := m.read(ctx, w, &got, t0, verify)
			if err != nil || wrong > 0 {
				t.Errorf("%d wrong records, %v", wrong, err)
			}
			want, err := ReadWorld(ctx, w, nil, 0, broker.LiveNodeStates())
			if err != nil {
				t.Fatal(err)
			}
			if differences(got.Nodes, want.Nodes, nodeID)+differences(got.Sessions, want.Sessions, sessionID) > 0 {
				t.Errorf("(-store +mirror)\n%s%s", cmp.Diff(want.Nodes, got.Nodes), cmp.Diff(want.Sessions, got.Sessions))
			}
		},
	})
}

// mirrored is a loop that has nothing to do for two ready nodes and one that is
// lent, after its first pass.
func mirrored(t *testing.T, log *slog.Logger) (*Loop, *watched, func(time.Duration)) {
	t.Helper()
	w, pools, now := &watched{Store: memory.New()}, new(broker.PoolSet), t0
	p := testPool("a", 2, 4)
	pools.Set([]broker.Pool{p})
	err := w.Update(t.Context(), func(tx broker.Tx) error {
		for _, state := range []broker.NodeState{broker.NodeReady, broker.NodeReady, broker.NodeHeld} {
			n := broker.NewNode(p, t0)
			n.State = state
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
		}
		return tx.CreateSession(&broker.Session{State: broker.SessionActive, ExpiresAt: t0.Add(24 * time.Hour)})
	})
	if err != nil {
		t.Fatal(err)
	}
	loop := New(Config{
		Store: w, Pools: pools, Log: log, Now: func() time.Time { return now }, Serving: func() map[string]bool { return nil },
	})
	loop.tidied = t0
	if _, err := loop.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	return loop, w, func(d time.Duration) { now = now.Add(d) }
}

// A pass reads what has changed, and now and then everything.
func TestPassReadsChanges(t *testing.T) {
	loop, w, later := mirrored(t, slog.New(slog.DiscardHandler))
	pass := func(what string, lists, records int) {
		t.Helper()
		w.lists, w.records = 0, 0
		if _, err := loop.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.lists != lists || w.records != records {
			t.Errorf("%s: %d lists and %d records were read, want %d and %d", what, w.lists, w.records, lists, records)
		}
	}
	pass("nothing has changed", 0, 0)
	touch := func() {
		t.Helper()
		err := w.Update(t.Context(), func(tx broker.Tx) error {
			n, err := tx.Node(3)
			if err != nil {
				return err
			}
			n.Attempts++
			if err := tx.UpdateNode(n.State, n); err != nil {
				return err
			}
			return tx.UpdateNode(n.State, n) // twice is once
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	touch()
	pass("a node has changed", 0, 1)
	later(verifyEvery)
	touch()
	pass("the mirror is compared", 2, 1)
	pass("it was", 0, 0)
	w.ignorant = true
	pass("the store knows nothing", 2, 0)
	pass("still", 2, 0)
	w.ignorant = false
	pass("it begins to know", 2, 0)
	pass("it does", 0, 0)
}

// A mirror that is wrong is noticed, told of and made anew, and nothing that is
// wrong about it does harm meanwhile: the store is asked again.
func TestMirrorIsMended(t *testing.T) {
	for name, spoil := range map[string]func(*mirror){
		"a node is missing":     func(m *mirror) { m.nodes = m.nodes[1:] },
		"a node has gone":       func(m *mirror) { m.nodes = append(m.nodes, broker.Node{ID: 77, Pool: "a", State: broker.NodeReady}) },
		"a state is old":        func(m *mirror) { m.nodes[1].State = broker.NodeFailed },
		"a field is old":        func(m *mirror) { m.nodes[1].Touched = true },
		"a session is missing":  func(m *mirror) { m.sessions = nil },
		"a session has expired": func(m *mirror) { m.sessions[0].ExpiresAt = t0 },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			loop, w, later := mirrored(t, slog.New(slog.NewTextHandler(&log, nil)))
			before := loop.mirror
			want := World{Nodes: append([]broker.Node(nil), before.nodes...), Sessions: append([]broker.Session(nil), before.sessions...)}
			spoil(&loop.mirror)
			later(verifyEvery)
			var seen []Pass
			loop.cfg.ObservePass = func(p Pass) { seen = append(seen, p) }
			for range 2 {
				_, err := loop.pass(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				loop.over(0, err)
			}
			if seen[0].Wrong != 1 || seen[1].Wrong != 0 || strings.Count(log.String(), "was wrong") != 1 {
				t.Errorf("%d and then %d records were wrong; the log says %s", seen[0].Wrong, seen[1].Wrong, log.String())
			}
			got, err := ReadWorld(t.Context(), w, nil, 0, broker.LiveNodeStates())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Nodes, loop.mirror.nodes) + cmp.Diff(want.Sessions, loop.mirror.sessions) + cmp.Diff(want.Nodes, got.Nodes) + cmp.Diff(want.Sessions, got.Sessions); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
		})
	}
}

// What a mirror has wrong, as long as nobody has noticed, is found out when the
// plan is committed.
func TestMirrorDecidesNothing(t *testing.T) {
	loop, w, _ := mirrored(t, slog.New(slog.DiscardHandler))
	loop.mirror.nodes[2].State = broker.NodeFailed // it is held
	loop.mirror.sessions[0].ExpiresAt = t0.Add(-time.Hour)
	loop.mirror.nodes = append(loop.mirror.nodes, broker.Node{ID: 77, Pool: "a", State: broker.NodeFailed}) // never was
	if _, err := loop.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	loop.workers.Wait()
	err := w.Store.View(t.Context(), func(tx broker.ReadTx) error {
		n, err := tx.Node(3)
		s, err2 := tx.Session(1)
		if n.State != broker.NodeHeld || s.State != broker.SessionActive {
			t.Errorf("the node is %s and the session is %s", n.State, s.State)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}
