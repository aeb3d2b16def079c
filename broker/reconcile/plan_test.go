package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func testPool(name string, fill, maximum int) broker.Pool {
	return broker.Pool{
		Name: name, FillLevel: fill, MaxNodes: maximum, Concurrency: 4,
		Ready: broker.ReadyCheck{SSH: true, Timeout: time.Minute}, Contextualize: broker.ContextualizeSSH,
		Source: broker.Source{Template: "t", Generation: "g1"},
	}
}

func testNode(id int64, p broker.Pool, state broker.NodeState) broker.Node {
	return broker.Node{ID: id, UID: fmt.Sprintf("%016x", id), Pool: p.Name, State: state, Since: t0, CreatedAt: t0, Source: p.Source}
}

func TestPlan(t *testing.T) {
	a := testPool("a", 2, 4)
	stale := a
	stale.Source.Generation = "g0"
	ready := func(id int64) broker.Node { return testNode(id, a, broker.NodeReady) }
	lent := func(id, session int64) broker.Node {
		n := testNode(id, a, broker.NodeDeployed)
		n.SessionID = session
		return n
	}
	session := func(id int64, state broker.SessionState, expires time.Time, nodes ...int64) broker.Session {
		s := broker.Session{ID: id, State: state, ExpiresAt: expires, Request: fmt.Sprintf("r%d", id)}
		for _, n := range nodes {
			s.Nodes = append(s.Nodes, broker.LentNode{ID: n, Pool: "a"})
		}
		return s
	}
	touched := testNode(1, a, broker.NodeReleasing)
	touched.Touched = true
	waiting := testNode(1, a, broker.NodeDestroying)
	waiting.RetryAt = t0.Add(time.Minute)
	asked := func(id int64, state broker.NodeState) broker.Node {
		n := testNode(id, a, state)
		n.Hold = &broker.Hold{Reason: "looking at it", By: "admin", Since: t0, From: state}
		return n
	}
	askedTouched := asked(4, broker.NodeReleasing)
	askedTouched.Touched = true
	askedWaiting := asked(5, broker.NodeDestroying)
	askedWaiting.RetryAt = t0.Add(time.Minute)
	scheduled, closed := a, a
	scheduled.Schedule = []broker.Window{{Name: "noon", Cron: "0 12 * * *", Duration: time.Hour, FillLevel: 5, MaxNodes: 6}}
	closed.Schedule = []broker.Window{{Name: "morning", Cron: "0 11 * * *", Duration: time.Hour, FillLevel: 5, MaxNodes: 6}, {Name: "soon", Cron: "0 13 * * *", Duration: time.Hour, FillLevel: 2, MaxNodes: 4}}
	aging, nearlyFull, full := a, testPool("a", 2, 3), testPool("a", 2, 2)
	aging.MaxAge, nearlyFull.MaxAge, full.MaxAge = 24*time.Hour, 24*time.Hour, 24*time.Hour
	aged := func(id int64, hours int) broker.Node {
		n := ready(id)
		n.CreatedAt = t0.Add(-time.Duration(hours) * time.Hour)
		return n
	}
	gone := testNode(1, a, broker.NodeGone)
	gone.RetiredAt = t0.Add(-KeepGone)

	tests := []struct {
		name  string
		world World
		want  []string // kind pool node session
		due   time.Time
	}{
		{
			name:  "an empty pool is filled, no further",
			world: World{Pools: []broker.Pool{a}},
			want:  []string{"create_node a 0 0", "create_node a 0 0"},
		},
		{
			name:  "a full pool needs nothing",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{ready(1), ready(2)}},
		},
		{
			name:  "lent nodes don't count for the fill level, but for the maximum",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{lent(1, 1), lent(2, 1), lent(3, 1)}, Sessions: []broker.Session{session(1, broker.SessionActive, t0.Add(time.Hour), 1, 2, 3)}},
			want:  []string{"create_node a 0 0"},
			due:   t0.Add(time.Hour),
		},
		{
			name:  "failed nodes count for the maximum until they are gone",
			world: World{Pools: []broker.Pool{testPool("a", 2, 2)}, Nodes: []broker.Node{testNode(1, a, broker.NodeFailed), testNode(2, a, broker.NodeFailed)}},
			want:  []string{"destroy_node a 1 0", "destroy_node a 2 0"},
		},
		{
			name:  "an expired session ends",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{ready(1), ready(2), lent(3, 1)}, Sessions: []broker.Session{session(1, broker.SessionActive, t0, 3)}},
			want:  []string{"expire_session  0 1"},
		},
		{
			name: "an unacknowledged session is abandoned, unless it is being served",
			world: World{
				Pools: []broker.Pool{a}, Nodes: []broker.Node{ready(1), ready(2)}, Serving: map[string]bool{"r2": true},
				Sessions: []broker.Session{session(1, broker.SessionPreparing, t0.Add(time.Hour)), session(2, broker.SessionPreparing, t0.Add(time.Hour))},
			},
			want: []string{"abandon_session  0 1"},
		},
		{
			name:  "a lent node that no session holds is released",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{ready(1), ready(2), lent(3, 9)}},
			want:  []string{"release_node a 3 0"},
		},
		{
			name:  "the tenant's key goes before the machine does",
			world: World{Pools: []broker.Pool{testPool("a", 0, 2)}, Nodes: []broker.Node{touched}},
			want:  []string{"revoke_node a 1 0"},
		},
		{
			name:  "a destroy that failed waits for its time",
			world: World{Pools: []broker.Pool{testPool("a", 0, 2)}, Nodes: []broker.Node{waiting}},
			due:   t0.Add(time.Minute),
		},
		{
			name:  "after a restart every transient state is somebody's work again",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{testNode(1, a, broker.NodeApplying), testNode(2, a, broker.NodeChecking), testNode(3, a, broker.NodeDestroying)}},
			want:  []string{"apply_node a 1 0", "destroy_node a 3 0", "check_node a 2 0"},
		},
		{
			name:  "busy nodes are left alone",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{testNode(1, a, broker.NodeApplying), testNode(2, a, broker.NodeChecking), testNode(3, a, broker.NodeDestroying)}, Busy: map[int64]bool{1: true, 2: true, 3: true}},
		},
		{
			name:  "nodes of a pool that has left the file are drained, lent ones when they come back",
			world: World{Nodes: []broker.Node{ready(1), lent(2, 1), testNode(3, a, broker.NodeChecking), testNode(4, a, broker.NodePlanned)}, Sessions: []broker.Session{session(1, broker.SessionActive, t0.Add(time.Hour), 2)}},
			want:  []string{"release_node a 3 0", "release_node a 4 0", "release_node a 1 0"},
			due:   t0.Add(time.Hour),
		},
		{
			name:  "excess is trimmed, oldest first",
			world: World{Pools: []broker.Pool{testPool("a", 1, 4)}, Nodes: []broker.Node{ready(1), ready(2), ready(3)}},
			want:  []string{"release_node a 1 0", "release_node a 2 0"},
		},
		{
			name:  "a full pool with stale nodes makes one node more",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{testNode(1, stale, broker.NodeReady), testNode(2, stale, broker.NodeReady)}},
			want:  []string{"start_rollout a 0 0", "create_node a 0 0"},
		},
		{
			name:  "and then gives up a stale one, not the oldest",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{ready(1), testNode(2, stale, broker.NodeReady), ready(3)}},
			want:  []string{"start_rollout a 0 0", "release_node a 2 0"},
		},
		{
			name:  "a pool at its maximum gives up a stale node first",
			world: World{Pools: []broker.Pool{testPool("a", 2, 2)}, Nodes: []broker.Node{testNode(1, stale, broker.NodeReady), testNode(2, stale, broker.NodeReady)}},
			want:  []string{"start_rollout a 0 0", "release_node a 1 0"},
		},
		{
			name:  "stale nodes stay while the pool is short",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{testNode(1, stale, broker.NodeReady)}},
			want:  []string{"start_rollout a 0 0", "create_node a 0 0"},
		},
		{
			name: "a pool at its maximum keeps stale nodes while the new generation fails",
			world: World{
				Pools: []broker.Pool{testPool("a", 2, 2)}, Nodes: []broker.Node{testNode(1, stale, broker.NodeReady), ready(2)},
				Health: map[string]broker.PoolHealth{"a": {Pool: "a", Generation: "g1", Failures: 1, LastFailure: t0}},
			},
			want: []string{"start_rollout a 0 0"},
			due:  t0.Add(breakerPauseMax),
		},
		{
			name:  "an open window counts in the place of the pool's own numbers, until it closes",
			world: World{Pools: []broker.Pool{scheduled}, Nodes: []broker.Node{ready(1), ready(2)}},
			want:  []string{"create_node a 0 0", "create_node a 0 0", "create_node a 0 0"},
			due:   t0.Add(time.Hour),
		},
		{
			name:  "so does its maximum",
			world: World{Pools: []broker.Pool{scheduled}, Nodes: []broker.Node{lent(1, 1), lent(2, 1), lent(3, 1), lent(4, 1)}, Sessions: []broker.Session{session(1, broker.SessionActive, t0.Add(2*time.Hour), 1, 2, 3, 4)}},
			want:  []string{"create_node a 0 0", "create_node a 0 0"},
			due:   t0.Add(time.Hour),
		},
		{
			name:  "when a window has closed, what is too much goes, but no node that is lent",
			world: World{Pools: []broker.Pool{closed}, Nodes: []broker.Node{ready(1), ready(2), ready(3), ready(4), lent(5, 1)}, Sessions: []broker.Session{session(1, broker.SessionActive, t0.Add(time.Hour), 5)}},
			want:  []string{"release_node a 1 0", "release_node a 2 0"},
			due:   t0.Add(time.Hour),
		},
		{
			name:  "above the maximum that is left nothing is made",
			world: World{Pools: []broker.Pool{closed}, Nodes: []broker.Node{lent(1, 1), lent(2, 1), lent(3, 1), lent(4, 1), lent(5, 1)}, Sessions: []broker.Session{session(1, broker.SessionActive, t0.Add(time.Hour), 1, 2, 3, 4, 5)}},
			due:   t0.Add(time.Hour),
		},
		{
			name:  "what is too old to be lent goes at once, and no stock is that",
			world: World{Pools: []broker.Pool{aging}, Nodes: []broker.Node{aged(1, 24), aged(2, 1)}},
			want:  []string{"release_node a 1 0", "create_node a 0 0"},
			due:   aging.Aging(aged(2, 1)),
		},
		{
			name:  "what ages is replaced before that, the new one first",
			world: World{Pools: []broker.Pool{aging}, Nodes: []broker.Node{aged(1, 22), aged(2, 22)}},
			want:  []string{"create_node a 0 0"},
			due:   t0.Add(2 * time.Hour),
		},
		{
			name:  "then one of them goes, and no younger one",
			world: World{Pools: []broker.Pool{aging}, Nodes: []broker.Node{aged(1, 1), aged(2, 22), aged(3, 22)}},
			want:  []string{"release_node a 2 0"},
			due:   t0.Add(2 * time.Hour),
		},
		{
			name:  "one at a time",
			world: World{Pools: []broker.Pool{aging}, Nodes: []broker.Node{aged(1, 22), aged(2, 22), testNode(3, a, broker.NodeApplying)}, Busy: map[int64]bool{3: true}},
			due:   t0.Add(2 * time.Hour),
		},
		{
			name:  "one at a time, at the maximum too",
			world: World{Pools: []broker.Pool{nearlyFull}, Nodes: []broker.Node{aged(1, 22), aged(2, 22), testNode(3, a, broker.NodeApplying)}, Busy: map[int64]bool{3: true}},
			due:   t0.Add(2 * time.Hour),
		},
		{
			name:  "a pool at its maximum gives up one that ages first",
			world: World{Pools: []broker.Pool{full}, Nodes: []broker.Node{aged(1, 22), aged(2, 22)}},
			want:  []string{"release_node a 1 0"},
			due:   t0.Add(2 * time.Hour),
		},
		{
			name: "but not while its creates fail",
			world: World{
				Pools: []broker.Pool{full}, Nodes: []broker.Node{aged(1, 22), aged(2, 22)},
				Health: map[string]broker.PoolHealth{"a": {Pool: "a", Generation: "g1", Failures: 1, LastFailure: t0}},
			},
			due: t0.Add(breakerPauseMax),
		},
		{
			name: "nor above its maximum",
			world: World{
				Pools: []broker.Pool{full}, Nodes: []broker.Node{aged(1, 22), aged(2, 22), lent(3, 1)},
				Sessions: []broker.Session{session(1, broker.SessionActive, t0.Add(time.Hour), 3)},
			},
			due: t0.Add(time.Hour),
		},
		{
			name: "a broken pool rests",
			world: World{
				Pools:  []broker.Pool{a},
				Health: map[string]broker.PoolHealth{"a": {Pool: "a", Generation: "g1", Failures: 4, LastFailure: t0}},
			},
			due: t0.Add(20 * time.Second),
		},
		{
			name: "a failure that is certain to happen again rests a pool at once",
			world: World{
				Pools:  []broker.Pool{a},
				Health: map[string]broker.PoolHealth{"a": {Pool: "a", Generation: "g1", Failures: 1, LastFailure: t0, Class: broker.FailureAuth}},
			},
			due: t0.Add(10 * time.Second),
		},
		{
			name: "a broken pool that has rested is tried with one node",
			world: World{
				Pools:  []broker.Pool{a},
				Health: map[string]broker.PoolHealth{"a": {Pool: "a", Generation: "g1", Failures: 4, LastFailure: t0.Add(-time.Minute)}},
			},
			want: []string{"create_node a 0 0"},
		},
		{
			name: "failures of an older generation don't count",
			world: World{
				Pools:  []broker.Pool{a},
				Health: map[string]broker.PoolHealth{"a": {Pool: "a", Generation: "g0", Failures: 9, LastFailure: t0}},
			},
			want: []string{"create_node a 0 0", "create_node a 0 0"},
		},
		{
			name:  "held nodes are left alone, and stock is refilled as far as the maximum goes",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{asked(1, broker.NodeHeld), asked(2, broker.NodeHeld), asked(3, broker.NodeHeld)}},
			want:  []string{"create_node a 0 0"},
		},
		{
			name:  "held nodes are not replaced with their pool",
			world: World{Nodes: []broker.Node{asked(1, broker.NodeHeld)}},
		},
		{
			name: "what is to be held is not stock any more, and nothing but that is begun on it; a tenant's key goes first",
			world: World{Pools: []broker.Pool{testPool("a", 1, 9)}, Nodes: []broker.Node{
				asked(1, broker.NodeReady), asked(2, broker.NodeChecking), asked(3, broker.NodeFailed), askedTouched, askedWaiting,
			}},
			want: []string{"hold_node a 1 0", "hold_node a 2 0", "hold_node a 3 0", "hold_node a 5 0", "revoke_node a 4 0", "create_node a 0 0"},
		},
		{
			name: "what is to be held and is worked on is waited for, and counts as a run",
			world: World{
				Pools: []broker.Pool{testPool("a", 1, 9)}, Nodes: []broker.Node{asked(1, broker.NodeDestroying), asked(2, broker.NodeChecking)},
				Busy: map[int64]bool{1: true, 2: true}, Runs: 1,
			},
		},
		{
			name:  "an old record is forgotten",
			world: World{Nodes: []broker.Node{gone}},
			want:  []string{"forget_node a 1 0"},
		},
		{
			name: "a backlog of destroys leaves half of the runs to creates",
			world: World{
				Pools: []broker.Pool{testPool("a", 9, 20)}, Runs: 4,
				Nodes: []broker.Node{testNode(1, a, broker.NodeFailed), testNode(2, a, broker.NodeFailed), testNode(3, a, broker.NodeFailed), testNode(4, a, broker.NodeFailed)},
			},
			want: []string{"destroy_node a 1 0", "create_node a 0 0", "destroy_node a 2 0", "create_node a 0 0"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.world.Runs == 0 {
				test.world.Runs = 100
			}
			actions, due := Plan(t0, test.world)
			var got []string
			for _, a := range actions {
				got = append(got, fmt.Sprintf("%s %s %d %d", a.Kind, a.Pool, a.NodeID, a.SessionID))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if !due.Equal(test.due) {
				t.Errorf("due %v, want %v", due, test.due)
			}
		})
	}
}

// drawSchedule makes windows some of which are open at t0, and others soon.
func drawSchedule(t *rapid.T) (windows []broker.Window) {
	for i := range max(0, rapid.IntRange(-2, 2).Draw(t, "windows")) {
		fill := rapid.IntRange(0, 6).Draw(t, "window's fill")
		windows = append(windows, broker.Window{
			Name: fmt.Sprintf("w%d", i), Cron: fmt.Sprintf("0 %d * * *", rapid.IntRange(0, 23).Draw(t, "opens")),
			Duration: time.Duration(rapid.IntRange(1, 20).Draw(t, "duration")) * time.Hour, Timezone: "Europe/Prague",
			FillLevel: fill, MaxNodes: fill + rapid.IntRange(0, 3).Draw(t, "window's room") + 1,
		})
	}
	return windows
}

// drawWorld makes any world that a store could hold, and some that it could not.
func drawWorld(t *rapid.T) World {
	w := World{
		Runs: rapid.IntRange(1, 8).Draw(t, "runs"), Health: map[string]broker.PoolHealth{},
		Busy: map[int64]bool{}, Serving: map[string]bool{}, Tokens: map[string]Tokens{}, Unmet: map[string]int{}, Rollouts: map[string]broker.Rollout{},
	}
	for _, account := range []string{"x", "y"} {
		w.Tokens[account] = Tokens{
			Create: rapid.IntRange(0, 3).Draw(t, "create tokens"), NextCreate: t0.Add(time.Second),
			Destroy: rapid.IntRange(0, 3).Draw(t, "destroy tokens"), NextDestroy: t0.Add(2 * time.Second),
		}
	}
	names := []string{"a", "b", "c"}
	var definitions []broker.Pool
	drawHosts(t, &w)
	for _, name := range names {
		fill := rapid.IntRange(0, 4).Draw(t, "fill")
		p := testPool(name, fill, fill+rapid.IntRange(0, 3).Draw(t, "room")+1)
		p.Concurrency = rapid.IntRange(1, 4).Draw(t, "concurrency")
		p.Account = rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "account")
		p.Rollout = broker.RolloutSettings{
			MaxSurge: rapid.IntRange(0, 3).Draw(t, "max surge"), MaxUnavailable: max(0, rapid.IntRange(-3, 2).Draw(t, "max unavailable")),
			PauseAfter: rapid.IntRange(0, 3).Draw(t, "pause after"), NoStale: rapid.IntRange(0, 3).Draw(t, "no stale") == 0,
		}
		p.Variants = drawVariants(t)
		if state := rapid.SampledFrom([]broker.RolloutState{"", broker.RolloutRunning, broker.RolloutPaused, broker.RolloutAborted, broker.RolloutDone}).Draw(t, "rollout"); state != "" {
			w.Rollouts[name] = broker.Rollout{
				Pool: name, Generation: rapid.SampledFrom([]string{"g0", p.Generation()}).Draw(t, "rollout's generation"), State: state, Now: rapid.Bool().Draw(t, "now"),
			}
		}
		w.Unmet[name] = max(0, rapid.IntRange(-6, 6).Draw(t, "unmet"))
		p.Schedule = drawSchedule(t)
		p.MaxAge = rapid.SampledFrom([]time.Duration{0, 0, 24 * time.Hour}).Draw(t, "max age")
		p.Inventory = rapid.SampledFrom([]broker.HostSelector{{}, {Name: "i"}, {Name: "i", Where: map[string]string{"arch": "x86_64"}}}).Draw(t, "inventory")
		definitions = append(definitions, p)
		if rapid.IntRange(0, 4).Draw(t, "known") > 0 {
			w.Pools = append(w.Pools, p)
		}
		if rapid.Bool().Draw(t, "unhealthy") {
			w.Health[name] = broker.PoolHealth{
				Pool: name, Generation: p.Generation(), Failures: rapid.IntRange(0, 12).Draw(t, "failures"),
				LastFailure: t0.Add(-time.Duration(rapid.IntRange(0, 900).Draw(t, "ago")) * time.Second),
			}
		}
		if failures := drawFailures(t, p); len(failures) > 0 {
			h := w.Health[name]
			h.Pool, h.Generation, h.Variants = name, p.Generation(), failures
			w.Health[name] = h
		}
	}
	for id := range int64(rapid.IntRange(0, 3).Draw(t, "sessions")) {
		w.Sessions = append(w.Sessions, broker.Session{
			ID: id + 1, Request: fmt.Sprintf("r%d", id+1),
			State:     rapid.SampledFrom([]broker.SessionState{broker.SessionPreparing, broker.SessionActive}).Draw(t, "session state"),
			ExpiresAt: t0.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "expires")) * time.Minute),
		})
		w.Serving[fmt.Sprintf("r%d", id+1)] = rapid.Bool().Draw(t, "serving")
	}
	for id := int64(1); id <= int64(rapid.IntRange(0, 14).Draw(t, "nodes")); id++ {
		p := rapid.SampledFrom(definitions).Draw(t, "pool")
		n := testNode(id, p, rapid.SampledFrom(broker.NodeStates()).Draw(t, "state"))
		if len(p.Variants) > 0 {
			way := rapid.SampledFrom(p.Ways()).Draw(t, "variant")
			n.Source, n.Variant = way.Source, way.Variants[0].Name
		}
		if rapid.Bool().Draw(t, "stale") {
			n.Source.Generation = "g0"
		}
		n.Account = p.Account
		drawHost(t, &w, p, &n)
		n.CreatedAt = t0.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "age")) * time.Hour)
		n.Touched = rapid.Bool().Draw(t, "touched")
		if n.State == broker.NodeDestroying {
			n.Attempts = rapid.IntRange(0, 5).Draw(t, "attempts")
		}
		if n.State == broker.NodeHeld || n.State.CanBecome(broker.NodeHeld) && rapid.IntRange(0, 3).Draw(t, "hold") == 0 {
			n.Hold = &broker.Hold{By: "admin", Since: t0, From: rapid.SampledFrom([]broker.NodeState{broker.NodeReady, broker.NodeFailed}).Draw(t, "from")}
		}
		if rapid.IntRange(0, 4).Draw(t, "interrupted") == 0 {
			n.Interruption = &broker.Interruption{Action: "terminate", Noticed: t0}
		}
		if rapid.Bool().Draw(t, "delayed") {
			n.RetryAt = t0.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "retry")) * time.Second)
		}
		if n.State == broker.NodeGone {
			n.RetiredAt = t0.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "gone")) * time.Hour)
		}
		switch n.State {
		case broker.NodePlanned, broker.NodeApplying, broker.NodeChecking, broker.NodeReleasing, broker.NodeDestroying:
			if rapid.Bool().Draw(t, "busy") {
				w.Busy[id] = true
			}
		case broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed, broker.NodeLost:
			if len(w.Sessions) > 0 && rapid.IntRange(0, 5).Draw(t, "held") > 0 {
				s := &w.Sessions[rapid.IntRange(0, len(w.Sessions)-1).Draw(t, "holder")]
				n.SessionID = s.ID
				s.Nodes = append(s.Nodes, broker.LentNode{ID: id, Pool: n.Pool})
			}
		}
		w.Nodes = append(w.Nodes, n)
	}
	return w
}

func TestPlanSafety(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		actions, due := Plan(t0, w)
		nodes, sessions := map[int64]broker.Node{}, map[int64]broker.Session{}
		running, total := map[string]int{}, map[string]int{}
		allRunning := 0
		for _, n := range w.Nodes {
			nodes[n.ID] = n
			if n.State != broker.NodeGone {
				total[n.Pool]++
			}
			if n.State == broker.NodeApplying || n.State == broker.NodeDestroying && w.Busy[n.ID] {
				running[n.Pool]++
				allRunning++
			}
		}
		for _, s := range w.Sessions {
			sessions[s.ID] = s
		}
		definition := map[string]broker.Pool{}
		for _, p := range w.Pools {
			definition[p.Name], _ = schedule.Pool(p, t0)
		}
		expired := map[string]int{}
		for _, n := range w.Nodes {
			if p, known := definition[n.Pool]; known && n.State == broker.NodeReady && !n.ToBeHeld() && p.Expired(n, t0) {
				expired[n.Pool]++
			}
		}
		interrupted := map[int64]bool{}
		for _, n := range w.Nodes {
			if n.Interruption != nil && !n.ToBeHeld() && !w.Busy[n.ID] && (n.State == broker.NodePlanned || n.State == broker.NodeChecking || n.State == broker.NodeReady) {
				interrupted[n.ID] = true
			}
		}
		given := freeHosts(w)
		seen := map[int64]bool{}
		tries := map[string]int{} // creates of this plan, by pool and variant
		started := map[string]int{}
		creates, destroys := map[string]int{}, map[string]int{} // by account
		for _, a := range actions {
			if a.Kind == MendHost {
				continue // nothing is done to the node
			}
			if a.NodeID != 0 {
				if seen[a.NodeID] {
					t.Fatalf("two actions on node %d in one plan", a.NodeID)
				}
				seen[a.NodeID] = true
			}
			n := nodes[a.NodeID]
			if a.NodeID != 0 && w.Busy[a.NodeID] {
				t.Fatalf("%s on node %d, which is busy", a.Kind, a.NodeID)
			}
			account := n.Account
			if p, known := definition[a.Pool]; known {
				account = p.Account
			}
			switch {
			case a.Kind == CreateNode || a.Kind == ApplyNode && n.State == broker.NodePlanned:
				creates[account]++
			case a.Kind == DestroyNode:
				destroys[account]++
			default:
				account = ""
			}
			if a.Account != account {
				t.Fatalf("%s of pool %s takes a token of account %q, want %q", a.Kind, a.Pool, a.Account, account)
			}
			if n.State == broker.NodeHeld || n.Hold != nil && a.Kind != HoldNode && a.Kind != RevokeNode {
				t.Fatalf("%s on node %d, which is %s, or to be", a.Kind, a.NodeID, broker.NodeHeld)
			}
			switch a.Kind {
			case CreateNode:
				if why := wrongVariant(w, definition[a.Pool], a, tries); why != "" {
					t.Fatalf("pool %s: a node of variant %q would be made: %s", a.Pool, a.Variant, why)
				}
				total[a.Pool]++
				if total[a.Pool] > definition[a.Pool].MaxNodes {
					t.Fatalf("pool %s would exceed its maximum %d", a.Pool, definition[a.Pool].MaxNodes)
				}
				checkHost(t, definition[a.Pool], a, given)
				started[a.Pool]++
			case ApplyNode:
				if n.State == broker.NodePlanned {
					started[a.Pool]++
				}
			case DestroyNode:
				started[a.Pool]++
				if n.State != broker.NodeReleasing && n.State != broker.NodeFailed && n.State != broker.NodeDestroying && n.State != broker.NodeLost {
					t.Fatalf("a %s node would be destroyed", n.State)
				}
				if s, ok := sessions[n.SessionID]; ok && n.State == broker.NodeLost && holds(&s, n.ID) {
					t.Fatalf("node %d would be destroyed while session %d holds it", n.ID, s.ID)
				}
				if n.State == broker.NodeReleasing && n.Touched {
					t.Fatal("a node would be destroyed before the tenant's key is off it")
				}
			case ReleaseNode, ReturnNode:
				delete(interrupted, a.NodeID)
				if p, known := definition[a.Pool]; known && n.State == broker.NodeReady && p.Expired(n, t0) {
					expired[a.Pool]--
				}
				if s, ok := sessions[n.SessionID]; ok && holds(&s, n.ID) {
					t.Fatalf("node %d would be taken out of session %d", n.ID, s.ID)
				}
			case AbandonSession:
				if w.Serving[sessions[a.SessionID].Request] {
					t.Fatal("a session in progress would be abandoned")
				}
			case RevokeNode, CheckNode, HoldNode, ForgetNode, ExpireSession, StartRollout, PauseRollout, FinishRollout, MendHost:
			}
		}
		for id := range interrupted {
			t.Fatalf("node %d is %s and will be interrupted: it stays", id, nodes[id].State)
		}
		for pool, left := range expired {
			if left != 0 {
				t.Fatalf("pool %s: %d nodes stay in stock that are too old to be lent", pool, left)
			}
		}
		for account, tokens := range w.Tokens {
			if creates[account] > tokens.Create || destroys[account] > tokens.Destroy {
				t.Fatalf("account %s: %d creates and %d destroys started with tokens for %d and %d", account, creates[account], destroys[account], tokens.Create, tokens.Destroy)
			}
		}
		sum := 0
		for pool, count := range started {
			sum += count
			limit := orphanConcurrency
			if p, ok := definition[pool]; ok {
				limit = p.Concurrency
			}
			if running[pool]+count > max(limit, running[pool]) {
				t.Fatalf("pool %s: %d runs in flight, %d more started, limit %d", pool, running[pool], count, limit)
			}
			if h := w.Health[pool]; h.Failures >= breakerThreshold {
				creates := 0
				for _, a := range actions {
					if a.Pool == pool && (a.Kind == CreateNode || a.Kind == ApplyNode && a.State == broker.NodePlanned) {
						creates++
					}
				}
				if creates > 1 || creates == 1 && h.LastFailure.Add(BreakerPause(h.Failures)).After(t0) {
					t.Fatalf("pool %s with %d failures starts %d creates", pool, h.Failures, creates)
				}
			}
		}
		if allRunning+sum > max(w.Runs, allRunning) {
			t.Fatalf("%d runs in flight, %d more started, limit %d", allRunning, sum, w.Runs)
		}
		if !due.IsZero() && !due.After(t0) {
			t.Fatalf("due %v is not in the future", due)
		}
	})
}

// perform does to the world what the loop would commit for the actions, with
// all work started but not finished.
func perform(w World, actions []Action) World {
	nodes := map[int64]*broker.Node{}
	for i := range w.Nodes {
		nodes[w.Nodes[i].ID] = &w.Nodes[i]
	}
	forgotten := map[int64]bool{}
	w.Hosts = slices.Clone(w.Hosts)
	w.Tokens, w.Rollouts = maps.Clone(w.Tokens), maps.Clone(w.Rollouts)
	if w.Rollouts == nil {
		w.Rollouts = make(map[string]broker.Rollout)
	}
	for _, a := range actions {
		n := nodes[a.NodeID]
		if tokens, limited := w.Tokens[a.Account]; limited && a.Kind == DestroyNode {
			tokens.Destroy--
			w.Tokens[a.Account] = tokens
		} else if limited {
			tokens.Create--
			w.Tokens[a.Account] = tokens
		}
		switch a.Kind {
		case ExpireSession, AbandonSession:
			kept := w.Sessions[:0:0]
			for _, s := range w.Sessions {
				if s.ID != a.SessionID {
					kept = append(kept, s)
					continue
				}
				for _, lent := range s.Nodes {
					switch n := nodes[lent.ID]; {
					case n.SessionID != s.ID || n.State == broker.NodeFailed:
					case a.Kind == ExpireSession:
						n.State = broker.NodeReleasing
					default:
						n.State = broker.NodeChecking
					}
				}
			}
			w.Sessions = kept
		case ReleaseNode:
			if n.State == broker.NodePlanned {
				n.State, n.RetiredAt = broker.NodeGone, t0
				vacate(&w, n)
			} else {
				n.State, n.RetryAt = broker.NodeReleasing, time.Time{}
			}
		case ReturnNode:
			n.State = broker.NodeChecking
		case ForgetNode:
			forgotten[n.ID] = true
		case CreateNode:
			for _, p := range w.Pools {
				if p.Name == a.Pool {
					id := int64(1000)
					for _, n := range w.Nodes {
						id = max(id, n.ID+1)
					}
					p, _ = p.As(a.Variant)
					created := testNode(id, p, broker.NodeApplying)
					occupy(&w, a.HostID, &created)
					w.Busy[created.ID] = true
					w.Nodes = append(w.Nodes, created)
				}
			}
			nodes = map[int64]*broker.Node{}
			for i := range w.Nodes {
				nodes[w.Nodes[i].ID] = &w.Nodes[i]
			}
		case ApplyNode:
			n.State, w.Busy[n.ID] = broker.NodeApplying, true
		case DestroyNode:
			n.State, w.Busy[n.ID] = broker.NodeDestroying, true
		case MendHost:
			h := hostOf(&w, a.HostID)
			h.NodeID = a.NodeID
		case CheckNode, RevokeNode, HoldNode:
			w.Busy[n.ID] = true
		case StartRollout, PauseRollout, FinishRollout:
			r := w.Rollouts[a.Pool]
			switch a.Kind {
			case StartRollout:
				r = broker.Rollout{Pool: a.Pool, State: broker.RolloutRunning, Stale: a.Stale}
				for _, p := range w.Pools {
					if p.Name == a.Pool {
						r.Generation = p.Generation()
					}
				}
			case PauseRollout:
				r.State = broker.RolloutPaused
			default:
				r.State = broker.RolloutDone
			}
			w.Rollouts[a.Pool] = r
		}
	}
	kept := w.Nodes[:0:0]
	for _, n := range w.Nodes {
		if !forgotten[n.ID] {
			kept = append(kept, n)
		}
	}
	w.Nodes = kept
	return w
}

// finish ends all work in progress with success, and fills the accounts.
func finish(w World) World {
	for i := range w.Nodes {
		n := &w.Nodes[i]
		if !w.Busy[n.ID] {
			continue
		}
		if n.ToBeHeld() && (n.State != broker.NodeReleasing || !n.Touched) {
			n.State = broker.NodeHeld
			continue
		}
		switch n.State {
		case broker.NodeApplying, broker.NodePlanned:
			n.State = broker.NodeChecking
		case broker.NodeChecking:
			n.State, n.Touched = broker.NodeReady, false
			for _, p := range w.Pools {
				if p.Name != n.Pool || !p.Current(*n) {
					continue
				}
				if w.Health[p.Name] = succeeded(p, w.Health[p.Name], *n); w.Health[p.Name].Well() {
					delete(w.Health, p.Name)
				}
			}
		case broker.NodeReleasing:
			n.Touched = false
		case broker.NodeDestroying:
			n.State, n.RetiredAt = broker.NodeGone, t0
			vacate(&w, n)
		case broker.NodeReady, broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed, broker.NodeFailed, broker.NodeHeld, broker.NodeGone:
		}
	}
	w.Busy = map[int64]bool{}
	for account, tokens := range w.Tokens {
		tokens.Create, tokens.Destroy = max(1, tokens.Create), max(1, tokens.Destroy)
		w.Tokens[account] = tokens
	}
	return w
}

// settle carries out and replans until nothing is left to commit at this moment.
func settle(t *rapid.T, now time.Time, w World) World {
	for range 20 {
		actions, _ := Plan(now, w)
		if len(actions) == 0 {
			return w
		}
		w = perform(w, actions)
	}
	actions, _ := Plan(now, w)
	t.Fatalf("20 plans, each carried out, and still: %+v", actions)
	return w
}

// Planning again after the actions were carried out gives nothing; and from any
// world whatsoever, when all work succeeds, every pool gets full, every node
// that is not wanted goes, and no state is a dead end.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.Serving = map[string]bool{} // as after a restart: nobody serves anything
		now := t0
		rest := func() {
			for i := range 300 {
				w = settle(t, now, w)
				for i := range w.Nodes {
					if n := &w.Nodes[i]; n.ID >= 1000 && n.State == broker.NodeApplying {
						n.CreatedAt = now
					}
				}
				w = finish(w)
				if i < 200 { // what has its own time to come, such as windows, comes
					now = now.Add(15 * time.Minute) // past every pause
				}
			}
		}
		asked := map[int64]bool{}
		for _, n := range w.Nodes {
			asked[n.ID] = n.Hold != nil
		}
		rest()
		for i := range w.Nodes {
			n := &w.Nodes[i]
			if held := n.State == broker.NodeHeld; held != asked[n.ID] {
				t.Fatalf("node %d rests as %s; asked to hold it: %t", n.ID, n.State, asked[n.ID])
			}
			if n.State != broker.NodeHeld {
				continue
			}
			n.State = broker.NodeDestroying
			if n.Hold.From == broker.NodeReady {
				n.State = broker.NodeChecking
			}
			n.Hold = nil
		}
		rest()
		actions, _ := Plan(now, w)
		if len(actions) != 0 {
			t.Fatalf("not at rest: %+v", actions)
		}
		count := map[string]map[broker.NodeState]int{}
		for _, n := range w.Nodes {
			if count[n.Pool] == nil {
				count[n.Pool] = map[broker.NodeState]int{}
			}
			count[n.Pool][n.State]++
		}
		for _, p := range w.Pools {
			got := count[p.Name]
			p, _ = schedule.Pool(p, now)
			ready := lendableNodes(w, p, now)
			if p.Inventory.Draws() && ready < p.FillLevel && !hostLeft(w, p, now) {
				continue
			}
			if ready != p.FillLevel {
				t.Errorf("pool %s rests with %d ready nodes of %d: %v", p.Name, ready, p.FillLevel, got)
			}
			if state := w.Rollouts[p.Name].State; state == broker.RolloutPaused || state == broker.RolloutAborted {
				continue
			}
			for _, n := range w.Nodes {
				if n.Pool == p.Name && n.State == broker.NodeReady && !p.Current(n) {
					t.Errorf("pool %s rests with stale node %d", p.Name, n.ID)
				}
			}
		}
		for _, n := range w.Nodes {
			if n.State != broker.NodeReady && n.State != broker.NodeGone {
				t.Errorf("node %d rests as %s", n.ID, n.State)
			}
		}
	})
}

func TestBrokenPoolIsBounded(t *testing.T) {
	w := World{Pools: []broker.Pool{testPool("a", 4, 8)}, Runs: 8, Health: map[string]broker.PoolHealth{}, Busy: map[int64]bool{}}
	attempts := 0
	now := t0
	for now.Before(t0.Add(time.Hour)) {
		actions, due := Plan(now, w)
		for _, a := range actions {
			if a.Kind == CreateNode { // fails at once, and leaves nothing
				attempts++
				h := w.Health["a"]
				h.Pool, h.Generation, h.Failures, h.LastFailure = "a", "g1", h.Failures+1, now
				w.Health["a"] = h
			}
		}
		switch {
		case len(actions) > 0:
			now = now.Add(time.Second)
		case due.IsZero():
			t.Fatal("a broken pool is given up for ever")
		default:
			now = due
		}
	}
	if attempts < 5 || attempts > 20 {
		t.Errorf("a pool whose creates always fail was tried %d times in the first hour, want 5 to 20", attempts)
	}
}

func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		got, want time.Duration
	}{
		{BreakerPause(0), 0},
		{BreakerPause(2), 0},
		{BreakerPause(3), 10 * time.Second},
		{BreakerPause(5), 40 * time.Second},
		{BreakerPause(1000), 10 * time.Minute},
		{DestroyPause(1), 5 * time.Second},
		{DestroyPause(4), 40 * time.Second},
		{DestroyPause(1 << 40), 10 * time.Minute},
	} {
		if test.got != test.want {
			t.Errorf("pause %v, want %v", test.got, test.want)
		}
	}
}
