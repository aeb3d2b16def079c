package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

func TestPlanRollout(t *testing.T) {
	type stock struct{ stale, ready, applying int }
	running := broker.Rollout{Pool: "a", Generation: "g1", State: broker.RolloutRunning}
	in := func(state broker.RolloutState) broker.Rollout {
		r := running
		r.State = state
		return r
	}
	hurried := running
	hurried.Now = true
	older := in(broker.RolloutPaused)
	older.Generation = "g0"
	olderRunning := running
	olderRunning.Generation = "g0"
	failing := func(n int, class broker.FailureClass) broker.PoolHealth {
		return broker.PoolHealth{Pool: "a", Generation: "g1", Failures: n, LastFailure: t0, Message: "no such image", Class: class}
	}
	for name, test := range map[string]struct {
		settings  broker.RolloutSettings
		fill, max int
		stock
		rollout broker.Rollout
		health  broker.PoolHealth
		want    map[string]int // actions, by kind
	}{
		"begins":                                {broker.RolloutSettings{}, 4, 9, stock{stale: 4}, broker.Rollout{}, broker.PoolHealth{}, map[string]int{"start_rollout": 1, "create_node": 1}},
		"goes on":                               {broker.RolloutSettings{}, 4, 9, stock{stale: 2, ready: 2}, running, broker.PoolHealth{}, map[string]int{"create_node": 1}},
		"waits for the node in the making":      {broker.RolloutSettings{}, 4, 9, stock{stale: 2, ready: 2, applying: 1}, running, broker.PoolHealth{}, nil},
		"ends":                                  {broker.RolloutSettings{}, 4, 9, stock{ready: 4}, running, broker.PoolHealth{}, map[string]int{"finish_rollout": 1}},
		"a pause ends with the last stale node": {broker.RolloutSettings{}, 4, 9, stock{ready: 4}, in(broker.RolloutPaused), broker.PoolHealth{}, map[string]int{"finish_rollout": 1}},
		"so does an abort":                      {broker.RolloutSettings{}, 4, 9, stock{ready: 4}, in(broker.RolloutAborted), broker.PoolHealth{}, map[string]int{"finish_rollout": 1}},
		"several at a time":                     {broker.RolloutSettings{MaxSurge: 3}, 4, 9, stock{stale: 4}, running, broker.PoolHealth{}, map[string]int{"create_node": 3}},
		"no more than there are":                {broker.RolloutSettings{MaxSurge: 3}, 4, 9, stock{stale: 1, ready: 3}, running, broker.PoolHealth{}, map[string]int{"create_node": 1}},
		"within the maximum":                    {broker.RolloutSettings{MaxSurge: 3}, 4, 6, stock{stale: 4}, running, broker.PoolHealth{}, map[string]int{"create_node": 2}},
		"stock may dip":                         {broker.RolloutSettings{MaxUnavailable: 2}, 4, 9, stock{stale: 4}, running, broker.PoolHealth{}, map[string]int{"release_node": 2, "create_node": 2}},
		"stock dips no further":                 {broker.RolloutSettings{MaxUnavailable: 2}, 4, 9, stock{stale: 2, applying: 2}, running, broker.PoolHealth{}, nil},
		"dip and surge":                         {broker.RolloutSettings{MaxSurge: 1, MaxUnavailable: 1}, 4, 9, stock{stale: 4}, running, broker.PoolHealth{}, map[string]int{"release_node": 1, "create_node": 2}},
		"stock does not dip for what fails":     {broker.RolloutSettings{MaxUnavailable: 2, MaxSurge: 1}, 4, 9, stock{stale: 4}, running, failing(1, ""), map[string]int{"create_node": 1}},
		"in a hurry":                            {broker.RolloutSettings{}, 4, 9, stock{stale: 4}, hurried, broker.PoolHealth{}, map[string]int{"create_node": 4}},
		"what is missing is made first":         {broker.RolloutSettings{MaxSurge: 2}, 4, 9, stock{stale: 2}, running, broker.PoolHealth{}, map[string]int{"create_node": 2}},
		"failures pause it":                     {broker.RolloutSettings{PauseAfter: 2}, 4, 9, stock{stale: 4}, running, failing(2, ""), map[string]int{"pause_rollout": 1}},
		"fewer don't":                           {broker.RolloutSettings{PauseAfter: 2}, 4, 9, stock{stale: 4}, running, failing(1, ""), map[string]int{"create_node": 1}},
		"one that is certain does":              {broker.RolloutSettings{PauseAfter: 2}, 4, 9, stock{stale: 4}, running, failing(1, broker.FailureAuth), map[string]int{"pause_rollout": 1}},
		"paused":                                {broker.RolloutSettings{MaxUnavailable: 2}, 4, 9, stock{stale: 4}, in(broker.RolloutPaused), broker.PoolHealth{}, nil},
		"paused, and stock is missing":          {broker.RolloutSettings{}, 4, 9, stock{stale: 3}, in(broker.RolloutPaused), broker.PoolHealth{}, map[string]int{"create_node": 1}},
		"paused, and there is too much stock":   {broker.RolloutSettings{}, 4, 9, stock{stale: 5}, in(broker.RolloutPaused), broker.PoolHealth{}, map[string]int{"release_node": 1}},
		"aborted":                               {broker.RolloutSettings{}, 4, 9, stock{stale: 4}, in(broker.RolloutAborted), broker.PoolHealth{}, nil},
		"a pause of an older one does not hold": {broker.RolloutSettings{}, 4, 9, stock{stale: 4}, older, broker.PoolHealth{}, map[string]int{"start_rollout": 1, "create_node": 1}},
		"failures pause only the present one":   {broker.RolloutSettings{PauseAfter: 2}, 4, 9, stock{ready: 4}, olderRunning, failing(2, ""), nil},
		"begins again":                          {broker.RolloutSettings{}, 4, 9, stock{stale: 1, ready: 3}, in(broker.RolloutDone), broker.PoolHealth{}, map[string]int{"start_rollout": 1, "create_node": 1}},
		"not lent, so of no use":                {broker.RolloutSettings{NoStale: true}, 4, 9, stock{stale: 4}, running, broker.PoolHealth{}, map[string]int{"release_node": 4, "create_node": 4}},
		"not lent, but kept while others fail":  {broker.RolloutSettings{NoStale: true, MaxSurge: 1}, 4, 9, stock{stale: 4}, running, failing(1, ""), map[string]int{"create_node": 4}},
	} {
		t.Run(name, func(t *testing.T) {
			p := testPool("a", test.fill, test.max)
			p.Rollout, p.Concurrency = test.settings, 100
			old := p
			old.Source.Generation = "g0"
			w := World{Pools: []broker.Pool{p}, Runs: 100, Busy: map[int64]bool{}, Rollouts: map[string]broker.Rollout{"a": test.rollout}, Health: map[string]broker.PoolHealth{"a": test.health}}
			add := func(n int, p broker.Pool, state broker.NodeState) {
				for range n {
					id := int64(len(w.Nodes) + 1)
					w.Busy[id] = state == broker.NodeApplying
					w.Nodes = append(w.Nodes, testNode(id, p, state))
				}
			}
			add(test.stale, old, broker.NodeReady)
			add(test.ready, p, broker.NodeReady)
			add(test.applying, p, broker.NodeApplying)
			actions, _ := Plan(t0, w)
			var got map[string]int
			for _, a := range actions {
				if got == nil {
					got = make(map[string]int)
				}
				got[string(a.Kind)]++
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
}

// A rollout takes no more stock than it may, none while it waits for an admin, and
// none for a generation that fails, but where there is no other room.
func TestPlanRolloutKeepsStock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		after := perform(w, first(Plan(t0, w)))
		for _, p := range w.Pools {
			p, _ = schedule.Pool(p, t0)
			before, now := lendableNodes(w, p, t0), lendableNodes(after, p, t0)
			floor := p.FillLevel - p.Rollout.MaxUnavailable
			full := 0
			for _, n := range w.Nodes {
				if n.Pool == p.Name && n.State != broker.NodeGone {
					full++
				}
			}
			if full >= p.MaxNodes {
				floor = min(floor, p.FillLevel-1)
			}
			r := w.Rollouts[p.Name]
			if r.Generation == p.Generation() && (r.State == broker.RolloutPaused || r.State == broker.RolloutAborted) {
				floor = p.FillLevel
				if p.MaxAge > 0 && full == p.MaxNodes { // what ages is no business of a rollout
					floor--
				}
			}
			if now < min(before, floor) {
				t.Fatalf("pool %s: %d of %d nodes are left in stock, want %d: %s", p.Name, now, before, floor, fmt.Sprint(first(Plan(t0, w))))
			}
		}
	})
}

func first(actions []Action, _ any) []Action { return actions }

func lendableNodes(w World, p broker.Pool, now time.Time) (count int) {
	for _, n := range w.Nodes {
		if n.Pool == p.Name && n.State == broker.NodeReady && !n.ToBeHeld() && p.Lendable(n) && !p.Expired(n, now) {
			count++
		}
	}
	return count
}
