package reconcile

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// nodesOf gives so many nodes of a pool in a state, with ids from first on.
func nodesOf(first int64, count int, p broker.Pool, state broker.NodeState) (nodes []broker.Node) {
	for i := range count {
		nodes = append(nodes, testNode(first+int64(i), p, state))
	}
	return nodes
}

func TestPriority(t *testing.T) {
	full, empty := testPool("full", 2, 2), testPool("empty", 2, 4)
	half, other := testPool("half", 4, 8), testPool("other", 2, 2)
	limited := testPool("limited", 6, 12)
	limited.Account = "x"
	narrow := testPool("narrow", 2, 4)
	narrow.Concurrency = 1
	stale := testPool("stale", 1, 3)
	old := stale
	old.Source.Generation = "g0"
	failing := testNode(9, full, broker.NodeDestroying)
	failing.Attempts = urgentTries
	orphan := testNode(1, broker.Pool{Name: "gone"}, broker.NodeReleasing)
	orphan.Account = "x"
	retried := func(id int64, due time.Time) broker.Node {
		n := testNode(id, testPool("a", 0, 9), broker.NodeDestroying)
		n.Since, n.Attempts, n.RetryAt = t0.Add(-24*time.Hour), 5, due
		return n
	}
	later := func(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }
	tests := []struct {
		name  string
		world World
		want  []string
		due   time.Time
	}{
		{
			name: "what makes room for missing stock comes first, rollouts last",
			world: World{
				Runs: 5, Pools: []broker.Pool{stale, empty, full},
				Nodes: slices.Concat(nodesOf(1, 1, old, broker.NodeReady), nodesOf(2, 2, full, broker.NodeFailed)),
			},
			want: []string{"destroy full 2", "destroy full 3", "create empty", "create empty", "create stale"},
		},
		{
			name: "a pool that somebody waits for is first among those without room, and among those with",
			world: World{
				Runs: 6, Pools: []broker.Pool{half, empty, full, other}, Unmet: map[string]int{"other": 1, "empty": 1},
				Nodes: slices.Concat(nodesOf(1, 2, full, broker.NodeFailed), nodesOf(3, 2, other, broker.NodeFailed)),
			},
			want: []string{"destroy other 3", "destroy other 4", "destroy full 1", "destroy full 2", "create empty", "create half"},
		},
		{
			name: "demand is for as many as wait, those in stock and on their way included",
			world: World{
				Runs: 5, Pools: []broker.Pool{half, empty}, Unmet: map[string]int{"half": 3},
				Nodes: slices.Concat(nodesOf(1, 1, half, broker.NodeReady)),
			},
			want: []string{"create half", "create half", "create empty", "create empty", "create half"},
		},
		{
			name: "the emptiest pool is filled first",
			world: World{
				Runs: 3, Pools: []broker.Pool{half, empty},
				Nodes: slices.Concat(nodesOf(1, 1, half, broker.NodeReady), nodesOf(2, 1, half, broker.NodeChecking)),
			},
			want: []string{"create empty", "create half", "create empty", "check half 2"},
		},
		{
			name: "a destroy that has failed again and again makes no room soon",
			world: World{
				Runs: 1, Pools: []broker.Pool{full, empty}, Unmet: map[string]int{"full": 1}, Turns: map[string]Turn{"full": {Destroy: 1}},
				Nodes: append(nodesOf(1, 1, full, broker.NodeReady), failing),
			},
			want: []string{"create empty"},
		},
		{
			name: "runs in flight count for the half that each side gets",
			world: World{
				Runs: 4, Pools: []broker.Pool{testPool("a", 9, 99), testPool("b", 0, 99)},
				Nodes: slices.Concat(nodesOf(1, 3, testPool("b", 0, 99), broker.NodeDestroying), nodesOf(4, 3, testPool("b", 0, 99), broker.NodeFailed)),
				Busy:  map[int64]bool{1: true, 2: true, 3: true},
			},
			want: []string{"create a"},
		},
		{
			name:  "in a pool with one run at a time, destroys and creates take turns",
			world: World{Runs: 9, Pools: []broker.Pool{narrow}, Nodes: nodesOf(1, 2, narrow, broker.NodeFailed), Turns: map[string]Turn{"narrow": {Create: 1, Destroy: 2}}},
			want:  []string{"create narrow"},
		},
		{
			name:  "the other's turn",
			world: World{Runs: 9, Pools: []broker.Pool{narrow}, Nodes: nodesOf(1, 2, narrow, broker.NodeFailed), Turns: map[string]Turn{"narrow": {Create: 2, Destroy: 1}}},
			want:  []string{"destroy narrow 1"},
		},
		{
			name: "also where all others create",
			world: World{
				Runs: 9, Pools: []broker.Pool{narrow, testPool("a", 3, 9)}, Turns: map[string]Turn{"narrow": {Create: 1, Destroy: 2}},
				Nodes: slices.Concat(nodesOf(1, 2, narrow, broker.NodeFailed), nodesOf(3, 3, testPool("a", 3, 9), broker.NodeApplying)),
				Busy:  map[int64]bool{3: true, 4: true, 5: true},
			},
			want: []string{"create narrow"},
		},
		{
			name: "destroys get no more than half of a pool whose stock waits, though all others create",
			world: World{
				Runs: 7, Pools: []broker.Pool{half, testPool("a", 4, 9)},
				Nodes: slices.Concat(nodesOf(1, 4, half, broker.NodeFailed), nodesOf(5, 4, testPool("a", 4, 9), broker.NodeApplying)),
				Busy:  map[int64]bool{5: true, 6: true, 7: true, 8: true},
			},
			want: []string{"destroy half 1", "destroy half 2", "create half"},
		},
		{
			name: "a rollout waits for any destroy, though it is the turn of creates",
			world: World{
				Runs: 1, Pools: []broker.Pool{stale, testPool("a", 0, 9)}, Turns: map[string]Turn{"a": {Destroy: 1}},
				Nodes: slices.Concat(nodesOf(1, 1, old, broker.NodeReady), nodesOf(2, 1, testPool("a", 0, 9), broker.NodeFailed)),
			},
			want: []string{"destroy a 2"},
		},
		{
			name:  "of two pools that are equally empty, the one is first whose turn is longer ago",
			world: World{Runs: 1, Pools: []broker.Pool{empty, other}, Turns: map[string]Turn{"empty": {Create: 2}, "other": {Create: 1}}},
			want:  []string{"create other"},
		},
		{
			name: "of two destroys, the one is first that has waited longer",
			world: World{
				Runs: 1, Pools: []broker.Pool{testPool("a", 0, 9)},
				Nodes: []broker.Node{retried(1, t0.Add(-time.Minute)), retried(2, t0.Add(-time.Hour))},
			},
			want: []string{"destroy a 2"},
		},
		{
			name: "an account's tokens are all that may start, and the next is due",
			world: World{
				Runs: 9, Pools: []broker.Pool{limited, empty}, Nodes: nodesOf(1, 3, limited, broker.NodeFailed),
				Tokens: map[string]Tokens{"x": {Create: 2, Destroy: 1, NextCreate: later(7), NextDestroy: later(9)}},
			},
			want: []string{"destroy limited 1", "create limited", "create empty", "create limited", "create empty"},
			due:  later(7),
		},
		{
			name: "without a free run nobody waits for a token",
			world: World{
				Runs: 1, Pools: []broker.Pool{limited}, Nodes: nodesOf(1, 1, limited, broker.NodeApplying), Busy: map[int64]bool{1: true},
				Tokens: map[string]Tokens{"x": {NextCreate: later(7), NextDestroy: later(9)}},
			},
		},
		{
			name: "a run that is adopted takes no token",
			world: World{
				Runs: 1, Pools: []broker.Pool{limited}, Nodes: nodesOf(1, 1, limited, broker.NodeApplying),
				Tokens: map[string]Tokens{"x": {NextCreate: later(7), NextDestroy: later(9)}},
			},
			want: []string{"apply limited 1"},
		},
		{
			name:  "a node remembers the account of a pool that has left the file",
			world: World{Runs: 9, Nodes: []broker.Node{orphan}, Tokens: map[string]Tokens{"x": {NextDestroy: later(9)}}},
			due:   later(9),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			actions, due := Plan(t0, test.world)
			var got []string
			for _, a := range actions {
				if a.Kind == StartRollout { // no run
					continue
				}
				verb := map[Kind]string{CreateNode: "create", DestroyNode: "destroy", ApplyNode: "apply", CheckNode: "check"}[a.Kind]
				text := verb + " " + a.Pool
				if a.NodeID != 0 {
					text += fmt.Sprintf(" %d", a.NodeID)
				}
				got = append(got, text)
			}
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if !due.Equal(test.due) {
				t.Errorf("due %v, want %v", due, test.due)
			}
		})
	}
}

// tier tells what a run is for, as spendBudget counts.
func tier(a Action) int {
	a.Reason, _, _ = strings.Cut(a.Reason, "; ") // the variant
	switch {
	case a.Kind == DestroyNode && a.Reason != "":
		return 1
	case a.Kind == DestroyNode:
		return 3
	case a.Reason == "a request waits for it":
		return 2
	case a.Reason == "replaces a stale node" || a.Reason == "replaces an old node":
		return 4
	}
	return 3
}

// starts leaves of a plan the Terraform runs that it starts.
func starts(w World, actions []Action) []Action {
	planned := map[int64]bool{}
	for _, n := range w.Nodes {
		planned[n.ID] = n.State == broker.NodePlanned
	}
	return slices.DeleteFunc(actions, func(a Action) bool {
		return a.Kind != CreateNode && a.Kind != DestroyNode && (a.Kind != ApplyNode || !planned[a.NodeID])
	})
}

// Runs start in the order of what they are for, and a smaller budget starts the
// first of those that a larger one would.
func TestPriorityHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		fewer, _ := Plan(t0, w)
		w.Runs += rapid.IntRange(1, 20).Draw(t, "more runs")
		more, _ := Plan(t0, w)
		few, many := starts(w, fewer), starts(w, more)
		if !slices.Equal(few, many[:min(len(few), len(many))]) {
			t.Fatalf("another order with more runs: %+v, with fewer %+v", many, few)
		}
		if !slices.IsSortedFunc(many, func(a, b Action) int { return cmp.Compare(tier(a), tier(b)) }) {
			t.Fatalf("not in the order of priority: %+v", many)
		}
	})
}

// Story 16: a backlog of destroys, whatever else goes on, takes no run that would
// give it more than half of those in flight while stock waits to be made; nor
// does the making of stock while destroys wait. The emptiest pool is the first.
func TestStory16NeitherSideTakesMoreThanHalf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.Tokens = nil
		for i := range w.Pools { // so that nothing but the global limit keeps anything waiting
			w.Pools[i], _ = schedule.Pool(w.Pools[i], t0)
			w.Pools[i].Concurrency, w.Pools[i].Schedule = 1000, nil
			w.Pools[i].Inventory = broker.HostSelector{} // whose free hosts bound the fill level
		}
		w.Nodes = slices.DeleteFunc(w.Nodes, func(n broker.Node) bool { // nor the limit of pools that have left the file
			return !slices.ContainsFunc(w.Pools, func(p broker.Pool) bool { return p.Name == n.Pool })
		})
		w.Runs = 1000
		actions, _ := Plan(t0, w)
		creating, destroying, made := 0, 0, map[string]int{}
		released := map[int64]bool{}
		for _, a := range actions {
			released[a.NodeID] = released[a.NodeID] || a.Kind == ReleaseNode
		}
		for _, n := range w.Nodes {
			switch n.State {
			case broker.NodeApplying:
				creating++
				if n.Interruption == nil {
					made[n.Pool]++
				}
			case broker.NodeReady, broker.NodeChecking:
				if !released[n.ID] && n.Interruption == nil && n.Hold == nil && (n.State == broker.NodeChecking || lendable(w, n)) {
					made[n.Pool]++
				}
			case broker.NodeDestroying:
				if w.Busy[n.ID] {
					destroying++
				}
			}
			if n.State == broker.NodePlanned && w.Busy[n.ID] && n.Interruption == nil {
				made[n.Pool]++ // on its way to be applied
			}
		}
		fill := map[string]int{}
		for _, p := range w.Pools {
			fill[p.Name] = max(1, p.FillLevel)
		}
		all := starts(w, actions)
		for i, a := range all {
			later := func(match func(Action) bool) bool { return slices.ContainsFunc(all[i+1:], match) }
			if tier(a) == 3 && a.Kind == DestroyNode && destroying > creating &&
				later(func(b Action) bool { return tier(b) == 3 && b.Kind != DestroyNode }) {
				t.Fatalf("%d destroys and %d creates in flight, stock waits, and one more destroy starts", destroying, creating)
			}
			if tier(a) == 3 && a.Kind != DestroyNode {
				if creating > destroying && later(func(b Action) bool { return tier(b) == 3 && b.Kind == DestroyNode }) {
					t.Fatalf("%d creates and %d destroys in flight, destroys wait, and one more create for stock starts", creating, destroying)
				}
				if later(func(b Action) bool {
					return tier(b) == 3 && b.Kind != DestroyNode && made[b.Pool]*fill[a.Pool] < made[a.Pool]*fill[b.Pool]
				}) {
					t.Fatalf("a node of pool %s (%d of %d) before one of an emptier pool: %v of %v", a.Pool, made[a.Pool], fill[a.Pool], made, fill)
				}
			}
			if a.Kind == DestroyNode {
				destroying++
			} else {
				creating++
				made[a.Pool]++
			}
		}
	})
}

// Runs end one by one, every node that gets ready is lent at once and comes back
// to be destroyed, and some destroys fail six times: no pool is left without, and
// no destroy is forgotten.
func TestNoPoolStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := World{Runs: rapid.IntRange(1, 6).Draw(t, "runs"), Busy: map[int64]bool{}}
		pools, most := rapid.IntRange(2, 5).Draw(t, "pools"), 0
		for i := range pools {
			fill := rapid.IntRange(1, 20).Draw(t, "fill")
			p := testPool(fmt.Sprintf("p%d", i), fill, fill+rapid.IntRange(2, 10).Draw(t, "room"))
			p.Concurrency = rapid.IntRange(1, 6).Draw(t, "concurrency")
			w.Pools, most = append(w.Pools, p), max(most, p.MaxNodes)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		memory := turns{byPool: map[string]Turn{}}
		w.Turns = memory.byPool
		now, since, first, id := t0, map[string]int{}, map[int64]int{}, int64(0)
		began, order := 0, map[int64]int{} // runs, and the number of each node's last one
		for range 400 {
			now = now.Add(time.Second)
			actions, due := Plan(now, w)
			for _, a := range actions {
				memory.note(a.Pool, a.Kind)
				switch a.Kind {
				case CreateNode:
					id++
					n := testNode(id, broker.Pool{Name: a.Pool, Source: w.Pools[0].Source}, broker.NodeApplying)
					n.CreatedAt, n.Since = now, now
					w.Nodes, w.Busy[id] = append(w.Nodes, n), true
					since[a.Pool], order[id] = began, began
					began++
				case DestroyNode:
					i := slices.IndexFunc(w.Nodes, func(n broker.Node) bool { return n.ID == a.NodeID })
					if w.Nodes[i].State != broker.NodeDestroying {
						w.Nodes[i].State, w.Nodes[i].Since, w.Nodes[i].Attempts = broker.NodeDestroying, now, 0
					}
					delete(first, a.NodeID)
					w.Busy[a.NodeID], order[a.NodeID] = true, began
					began++
				default:
					t.Fatalf("unexpected %+v", a)
				}
			}
			count := map[string]int{}
			for _, n := range w.Nodes {
				count[n.Pool]++
			}
			for _, p := range w.Pools {
				// A pool at its maximum waits for destroys, which are looked at below.
				if count[p.Name] >= p.MaxNodes {
					since[p.Name] = began
				}
				if waited := began - since[p.Name]; waited > 50*pools {
					t.Fatalf("pool %s has waited for a create while %d other runs began", p.Name, waited)
				}
			}
			// One of the older half of the runs ends.
			var running []int
			for i, n := range w.Nodes {
				if w.Busy[n.ID] {
					running = append(running, i)
				}
			}
			slices.SortFunc(running, func(i, j int) int { return cmp.Compare(order[w.Nodes[i].ID], order[w.Nodes[j].ID]) })
			if len(running) == 0 { // all pools are full of what can't be destroyed yet
				if due.IsZero() {
					t.Fatal("nothing runs, and nothing is due")
				}
				continue
			}
			n := &w.Nodes[running[random.IntN((len(running)+1)/2)]]
			delete(w.Busy, n.ID)
			switch {
			case n.State == broker.NodeApplying: // lent, and back at once
				n.State, n.Since = broker.NodeReleasing, now
				first[n.ID] = began
			case n.ID%7 == 0 && n.Attempts < 6: // can't be destroyed yet
				n.Attempts++
				n.RetryAt = now.Add(DestroyPause(n.Attempts))
			default:
				gone := n.ID
				w.Nodes = slices.DeleteFunc(w.Nodes, func(n broker.Node) bool { return n.ID == gone })
			}
			for node, at := range first {
				// While its pool has room, creates may go first: so often at most.
				if began-at > 2*most*(w.Runs+pools) {
					t.Fatalf("node %d has waited for its destroy while %d other runs began", node, began-at)
				}
			}
		}
	})
}

// Requests that never cease to wait don't keep what is to go for ever: one destroy
// at a time gets its turn.
func TestOverdueDestroysGetTheirTurn(t *testing.T) {
	busy := testPool("busy", 10, 20)
	busy.Concurrency = 20
	gone := testPool("gone", 1, 20)
	w := World{Pools: []broker.Pool{busy}, Runs: 3, Unmet: map[string]int{"busy": 10}}
	for id := range int64(5) {
		w.Nodes = append(w.Nodes, testNode(id+1, gone, broker.NodeFailed))
	}
	count := func(now time.Time) (creates, destroys int) {
		actions, _ := Plan(now, w)
		for _, a := range actions {
			switch a.Kind {
			case CreateNode:
				creates++
			case DestroyNode:
				destroys++
			}
		}
		return creates, destroys
	}
	if creates, destroys := count(t0.Add(time.Minute)); creates != 3 || destroys != 0 {
		t.Errorf("at first %d creates and %d destroys, want 3 and 0", creates, destroys)
	}
	if creates, destroys := count(t0.Add(time.Hour)); creates != 2 || destroys != 1 {
		t.Errorf("after an hour %d creates and %d destroys, want 2 and 1", creates, destroys)
	}
}

// lendable tells whether a node in stock may be lent now.
func lendable(w World, n broker.Node) bool {
	for _, p := range w.Pools {
		if p.Name == n.Pool {
			return p.Lendable(n) && (p.MaxAge == 0 || p.Expiry(n).After(t0))
		}
	}
	return true
}
