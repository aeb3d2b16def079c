package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
)

// sweepPool is a pool that is swept every ten minutes; its nodes are made within five.
func sweepPool(name string) broker.Pool {
	p := testPool(name, 2, 4)
	p.Source.Sweeps = true
	p.CreateTimeout = 5 * time.Minute
	p.Sweep = broker.Sweep{Interval: 10 * time.Minute, MaxDestroys: 2}
	return p
}

// oldNode is a node that is older than anything that matters.
func oldNode(id int64, p broker.Pool, state broker.NodeState) broker.Node {
	n := testNode(id, p, state)
	n.CreateTimeout = p.CreateTimeout
	n.Since, n.CreatedAt = t0.Add(-time.Hour), t0.Add(-time.Hour)
	return n
}

func uid(id int64) string { return fmt.Sprintf("%016x", id) }

func listed(ids ...int64) (nodes []broker.ListedNode) {
	for _, id := range ids {
		nodes = append(nodes, broker.ListedNode{UID: uid(id), CreatedAt: t0.Add(-time.Hour), Resources: map[string]string{"a.b": uid(id)}})
	}
	return nodes
}

func seen(ago time.Duration, ids ...int64) map[string]time.Time {
	all := map[string]time.Time{}
	for _, id := range ids {
		all[uid(id)] = t0.Add(-ago)
	}
	return all
}

// outcome writes a plan in short: leaks, vanished, left, and what is remembered.
func outcome(p SweepPlan) string {
	if p.Distrusted != "" {
		return "distrusted"
	}
	number := func(uid string) string { return strings.TrimLeft(uid, "0") }
	numbers := func(m map[string]time.Time) (all []string) {
		for _, uid := range slices.Sorted(maps.Keys(m)) {
			all = append(all, number(uid))
		}
		return all
	}
	var leaks, vanished []string
	for _, n := range p.Leaks {
		leaks = append(leaks, number(n.UID))
	}
	for _, n := range p.Vanished {
		vanished = append(vanished, number(n.UID))
	}
	return fmt.Sprintf("leaks %v vanished %v left %d unknown %v missing %v", leaks, vanished, p.Left, numbers(p.Sightings.Unknown), numbers(p.Sightings.Missing))
}

func TestPlanSweep(t *testing.T) {
	a, b := sweepPool("a"), sweepPool("b")
	interval := a.Sweep.Interval
	ready := func(ids ...int64) (nodes []broker.Node) {
		for _, id := range ids {
			nodes = append(nodes, oldNode(id, a, broker.NodeReady))
		}
		return nodes
	}
	allListed := map[string]bool{}
	for id := range int64(20) {
		allListed[uid(id)] = true
	}
	in := func(state broker.NodeState, change ...func(*broker.Node)) broker.Node {
		n := oldNode(9, a, state)
		for _, f := range change {
			f(&n)
		}
		return n
	}
	young := listed(7)
	young[0].CreatedAt = t0.Add(-a.CreateTimeout)
	undated := listed(7)
	undated[0].CreatedAt = time.Time{}
	foreign := listed(7)
	foreign[0].Pool = "b"
	bare := listed(7)
	bare[0].Resources = nil
	remains := func(ids ...int64) []broker.ListedNode {
		list := listed(ids...)
		for i := range list {
			list[i].Remains = true
		}
		return list
	}
	odd := []broker.ListedNode{{UID: ""}, {UID: "../../x"}, {UID: "00000000000000AA"}}

	tests := map[string]struct {
		listing    []broker.ListedNode
		incomplete bool
		nodes      []broker.Node
		earlier    Sightings
		want       string
	}{
		"all is well":     {listing: listed(1, 2), nodes: ready(1, 2), want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"nothing at all":  {want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"remains unknown": {listing: append(listed(1), remains(7)...), nodes: ready(1), earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [7] vanished [] left 0 unknown [7] missing []"},
		"only remains": {
			listing: append(listed(1, 3), remains(2)...), nodes: ready(1, 2, 3), earlier: Sightings{Missing: seen(interval, 2), Listed: allListed},
			want: "leaks [] vanished [2] left 0 unknown [] missing [2]",
		},
		"remains beside the node": {listing: append(remains(1, 2), append(listed(1, 2), remains(2)...)...), nodes: ready(1, 2), want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"remains of all":          {listing: remains(1, 2), nodes: ready(1, 2), want: "distrusted"},
		"unknown once":            {listing: listed(1, 7), nodes: ready(1), want: "leaks [] vanished [] left 0 unknown [7] missing []"},
		"unknown twice":           {listing: listed(1, 7), nodes: ready(1), earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [7] vanished [] left 0 unknown [7] missing []"},
		"unknown twice, of another pool by its tag":    {listing: foreign, earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"unknown twice, of another pool by its record": {listing: listed(7), nodes: []broker.Node{oldNode(7, b, broker.NodeGone)}, earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"unknown twice in a hurry":                     {listing: listed(1, 7), nodes: ready(1), earlier: Sightings{Unknown: seen(time.Minute, 7)}, want: "leaks [] vanished [] left 0 unknown [7] missing []"},
		"unknown and young":                            {listing: young, earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [] vanished [] left 0 unknown [7] missing []"},
		"undated, seen just now":                       {listing: undated, earlier: Sightings{Unknown: seen(a.CreateTimeout, 7)}, want: "leaks [] vanished [] left 0 unknown [7] missing []"},
		"undated, seen long ago":                       {listing: undated, earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [7] vanished [] left 0 unknown [7] missing []"},
		"unknown no more":                              {listing: listed(1), nodes: ready(1), earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"gone but listed":                              {listing: listed(9), nodes: []broker.Node{in(broker.NodeGone)}, earlier: Sightings{Unknown: seen(interval, 9)}, want: "leaks [9] vanished [] left 0 unknown [9] missing []"},
		"gone, made under a longer timeout": {
			listing: listed(9), nodes: []broker.Node{in(broker.NodeGone, func(n *broker.Node) { n.CreateTimeout = 2 * time.Hour })},
			earlier: Sightings{Unknown: seen(interval, 9)}, want: "leaks [] vanished [] left 0 unknown [9] missing []",
		},
		"of another pool":         {listing: listed(3), nodes: []broker.Node{oldNode(3, b, broker.NodeReady)}, earlier: Sightings{Unknown: seen(interval, 3)}, want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"twice in one listing":    {listing: append(listed(1, 7), listed(7, 1)...), nodes: ready(1, 2), want: "leaks [] vanished [] left 0 unknown [7] missing [2]"},
		"twice in both listings":  {listing: append(listed(1, 7), listed(7, 1)...), nodes: ready(1), earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [7] vanished [] left 0 unknown [7] missing []"},
		"more than one sweep may": {listing: listed(5, 6, 7), earlier: Sightings{Unknown: seen(interval, 5, 6, 7)}, want: "leaks [5 6] vanished [] left 1 unknown [5 6 7] missing []"},
		"leaks before vanished":   {listing: listed(1, 7), nodes: ready(1, 2, 3), earlier: Sightings{Unknown: seen(interval, 7), Missing: seen(interval, 2, 3)}, want: "distrusted"},
		"vanished, as many as may": {
			listing: listed(1, 4, 5, 7), nodes: ready(1, 2, 3, 4, 5), earlier: Sightings{Unknown: seen(interval, 7), Missing: seen(interval, 2, 3)},
			want: "leaks [7] vanished [2] left 1 unknown [7] missing [2 3]",
		},
		"no import ids":     {listing: bare, earlier: Sightings{Unknown: seen(interval, 7)}, want: "leaks [] vanished [] left 0 unknown [7] missing []"},
		"malformed ids":     {listing: odd, earlier: Sightings{Unknown: map[string]time.Time{"": t0.Add(-interval), "../../x": t0.Add(-interval), "00000000000000AA": t0.Add(-interval)}}, want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"incomplete":        {listing: listed(1, 7), incomplete: true, nodes: ready(1), earlier: Sightings{Unknown: seen(interval, 7)}, want: "distrusted"},
		"empty":             {nodes: ready(1), earlier: Sightings{Missing: seen(interval, 1)}, want: "distrusted"},
		"too short":         {listing: listed(1, 7), nodes: ready(1, 2, 3), earlier: Sightings{Missing: seen(interval, 2, 3)}, want: "distrusted"},
		"missing once":      {listing: listed(1), nodes: ready(1, 2), want: "leaks [] vanished [] left 0 unknown [] missing [2]"},
		"missing twice":     {listing: listed(1), nodes: ready(1, 2), earlier: Sightings{Missing: seen(interval, 2)}, want: "leaks [] vanished [2] left 0 unknown [] missing [2]"},
		"missing no more":   {listing: listed(1, 2), nodes: ready(1, 2), earlier: Sightings{Missing: seen(interval, 2)}, want: "leaks [] vanished [] left 0 unknown [] missing []"},
		"lent and missing":  {listing: listed(1), nodes: append(ready(1), in(broker.NodeDeployed)), earlier: Sightings{Missing: seen(interval, 9)}, want: "leaks [] vanished [9] left 0 unknown [] missing [9]"},
		"checked meanwhile": {listing: listed(1), nodes: append(ready(1), in(broker.NodeChecking)), earlier: Sightings{Missing: seen(interval, 9)}, want: "leaks [] vanished [] left 0 unknown [] missing [9]"},
		"prepared meanwhile": {
			listing: listed(1), nodes: append(ready(1), in(broker.NodeContextualizing)), earlier: Sightings{Missing: seen(interval, 9)},
			want: "leaks [] vanished [] left 0 unknown [] missing [9]",
		},
		"missing but stale": {
			listing: listed(1), nodes: append(ready(1), in(broker.NodeReady, func(n *broker.Node) { n.Source.Generation = "g0" })),
			earlier: Sightings{Missing: seen(interval, 9)}, want: "leaks [] vanished [] left 0 unknown [] missing []",
		},
		"changed during the listing": {
			listing: listed(1), nodes: append(ready(1), in(broker.NodeReady, func(n *broker.Node) { n.Since = t0 })),
			earlier: Sightings{Missing: seen(interval, 9)}, want: "leaks [] vanished [] left 0 unknown [] missing []",
		},
		"missing and never listed": {
			listing: listed(1), nodes: ready(1, 2), earlier: Sightings{Missing: seen(interval, 2), Listed: map[string]bool{uid(1): true}},
			want: "leaks [] vanished [] left 0 unknown [] missing [2]",
		},
		"missing, never listed, but old": {
			listing: listed(1), nodes: append(ready(1), in(broker.NodeReady, func(n *broker.Node) { n.CreatedAt = t0.Add(-25 * time.Hour) })),
			earlier: Sightings{Missing: seen(interval, 9), Listed: map[string]bool{}}, want: "leaks [] vanished [9] left 0 unknown [] missing [9]",
		},
		"missing but young": {
			listing: listed(1), nodes: append(ready(1), in(broker.NodeReady, func(n *broker.Node) { n.CreatedAt = t0.Add(-12 * time.Minute) })),
			earlier: Sightings{Missing: seen(interval, 9)}, want: "leaks [] vanished [] left 0 unknown [] missing [9]",
		},
	}
	// Whatever happens to a live node, it is no leak, and the sweep has no hand in it.
	for _, state := range broker.LiveNodeStates() {
		tests["live: "+string(state)] = struct {
			listing    []broker.ListedNode
			incomplete bool
			nodes      []broker.Node
			earlier    Sightings
			want       string
		}{listing: listed(9), nodes: []broker.Node{in(state)}, earlier: Sightings{Unknown: seen(interval, 9)}, want: "leaks [] vanished [] left 0 unknown [] missing []"}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.earlier.Listed == nil {
				tt.earlier.Listed = allListed
			}
			plan := PlanSweep(t0, SweepWorld{
				Pool: a, Began: t0.Add(-time.Second), Listing: broker.Listing{Complete: !tt.incomplete, Nodes: tt.listing}, Nodes: tt.nodes, Earlier: tt.earlier,
			})
			if got := outcome(plan); got != tt.want {
				t.Errorf("got  %s (%s)\nwant %s", got, plan.Distrusted, tt.want)
			}
		})
	}
	warned := PlanSweep(t0, SweepWorld{Pool: a, Began: t0, Listing: broker.Listing{Complete: true, Nodes: append(odd, bare...)}, Earlier: Sightings{Unknown: seen(interval, 7)}})
	if diff := cmp.Diff([]string{"", "../../x", "00000000000000AA"}, warned.Malformed); diff != "" {
		t.Errorf("malformed uids (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{uid(7)}, warned.Bare); diff != "" {
		t.Errorf("leaks without import ids (-want +got):\n%s", diff)
	}
}

// Several entries of a node are one leak, with all resources.
func TestPlanSweepMerges(t *testing.T) {
	p := sweepPool("a")
	both := listed(7, 7)
	both[1].Resources = map[string]string{"a.c": "2"}
	both[0].Address = "192.0.2.1"
	plan := PlanSweep(t0, SweepWorld{Pool: p, Began: t0, Listing: broker.Listing{Complete: true, Nodes: both}, Earlier: Sightings{Unknown: seen(time.Hour, 7)}})
	want := []broker.ListedNode{{
		UID: uid(7), Address: "192.0.2.1", CreatedAt: t0.Add(-time.Hour), Resources: map[string]string{"a.b": uid(7), "a.c": "2"},
	}}
	if diff := cmp.Diff(want, plan.Leaks); diff != "" {
		t.Errorf("leaks (-want +got):\n%s", diff)
	}
}

// What is listed of a node that can't be destroyed is noted, and nothing else is.
func TestPlanSweepFindsWhatIsInTheWay(t *testing.T) {
	p := sweepPool("a")
	stuck := func(id int64, change ...func(*broker.Node)) broker.Node {
		n := oldNode(id, p, broker.NodeDestroying)
		n.Attempts, n.Import = 1, map[string]string{"a.c": "2"}
		for _, f := range change {
			f(&n)
		}
		return n
	}
	other := sweepPool("b")
	w := SweepWorld{Pool: p, Began: t0, Listing: broker.Listing{Complete: true, Nodes: listed(1, 2, 3, 4, 5, 6)}, Nodes: []broker.Node{
		stuck(1),
		stuck(2, func(n *broker.Node) { n.Import["a.b"] = uid(2) }), // noted before
		stuck(3, func(n *broker.Node) { n.Attempts = 0 }),           // its first try may do
		stuck(4, func(n *broker.Node) { n.Pool, n.Source = "b", other.Source }),
		stuck(5, func(n *broker.Node) { n.Source.Generation = "older" }), // other addresses
		stuck(6, func(n *broker.Node) { n.State = broker.NodeDeployed }),
		stuck(7), // not listed
	}}
	found := PlanSweep(t0, w).Found
	want := []broker.Node{stuck(1, func(n *broker.Node) { n.Import["a.b"] = uid(1) })}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	w.Listing.Complete = false
	if found := PlanSweep(t0, w).Found; len(found) > 0 {
		t.Errorf("found in a listing that is not complete: %+v", found)
	}
}

// What must never happen, whatever listing meets whatever store.
func TestPlanSweepSafety(t *testing.T) {
	a, b := sweepPool("a"), sweepPool("b")
	rapid.Check(t, func(t *rapid.T) {
		w := SweepWorld{Pool: a, Began: t0.Add(-time.Second), Listing: broker.Listing{Complete: rapid.IntRange(0, 3).Draw(t, "complete") > 0}}
		live, there := map[string]bool{}, map[string]bool{}
		for id := int64(1); id <= int64(rapid.IntRange(0, 10).Draw(t, "nodes")); id++ {
			n := oldNode(id, rapid.SampledFrom([]broker.Pool{a, b}).Draw(t, "pool"), rapid.SampledFrom(broker.NodeStates()).Draw(t, "state"))
			n.CreatedAt = t0.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "age")) * time.Minute)
			live[n.UID] = n.State != broker.NodeGone
			w.Nodes = append(w.Nodes, n)
		}
		ids := rapid.SliceOfN(rapid.Int64Range(1, 14), 0, 20).Draw(t, "listed")
		for _, id := range ids {
			there[uid(id)] = true
			n := listed(id)[0]
			n.CreatedAt = t0.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "listed age")) * time.Minute)
			w.Listing.Nodes = append(w.Listing.Nodes, n)
		}
		earlier := func(name string) map[string]time.Time {
			return seen(time.Duration(rapid.IntRange(0, 30).Draw(t, name+" ago"))*time.Minute, rapid.SliceOf(rapid.Int64Range(1, 14)).Draw(t, name)...)
		}
		w.Earlier = Sightings{Unknown: earlier("unknown"), Missing: earlier("missing")}
		w.Earlier.Listed = map[string]bool{}
		for _, id := range rapid.SliceOf(rapid.Int64Range(1, 14)).Draw(t, "listed before") {
			w.Earlier.Listed[uid(id)] = true
		}
		plan := PlanSweep(t0, w)
		if !w.Listing.Complete && outcome(plan) != "distrusted" {
			t.Fatal("something follows from an incomplete listing")
		}
		destroys := len(plan.Leaks)
		once := map[string]bool{}
		for _, l := range plan.Leaks {
			_, earlier := w.Earlier.Unknown[l.UID]
			if live[l.UID] || once[l.UID] || !earlier || t0.Sub(l.CreatedAt) <= a.CreateTimeout {
				t.Fatalf("leak %+v", l)
			}
			once[l.UID] = true
		}
		for _, n := range plan.Vanished {
			if n.State != broker.NodeDeployed {
				destroys++
			}
			_, earlier := w.Earlier.Missing[n.UID]
			if there[n.UID] || !earlier || !w.Earlier.Listed[n.UID] || n.Pool != a.Name || !live[n.UID] || n.State != broker.NodeReady && n.State != broker.NodeDeployed {
				t.Fatalf("vanished %+v", n)
			}
		}
		if destroys > a.Sweep.MaxDestroys {
			t.Fatalf("%d nodes would be destroyed, at most %d may", destroys, a.Sweep.MaxDestroys)
		}
		if len(plan.Vanished) > 0 && len(there) == 0 {
			t.Fatal("nodes have vanished by an empty listing")
		}
	})
}

// What was listed once is remembered while it lives, also over bad listings.
func TestPlanSweepRemembersWhatWasListed(t *testing.T) {
	p := sweepPool("a")
	gone := oldNode(3, p, broker.NodeGone)
	w := SweepWorld{
		Pool: p, Began: t0, Listing: broker.Listing{Complete: true, Nodes: listed(1, 3, 4)},
		Nodes:   []broker.Node{oldNode(1, p, broker.NodeReady), oldNode(2, p, broker.NodeReady), gone},
		Earlier: Sightings{Listed: map[string]bool{uid(2): true, uid(5): true}},
	}
	want := map[string]bool{uid(1): true, uid(2): true}
	if diff := cmp.Diff(want, PlanSweep(t0, w).Sightings.Listed); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	w.Listing.Complete = false
	if diff := cmp.Diff(w.Earlier.Listed, PlanSweep(t0, w).Sightings.Listed); diff != "" {
		t.Errorf("after a bad listing (-want +got):\n%s", diff)
	}
}
