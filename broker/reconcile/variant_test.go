package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
)

// variantPool gives a pool with variants of these names, whose generations are "g-"
// and the name.
func variantPool(fill, maximum int, names ...string) broker.Pool {
	p := testPool("a", fill, maximum)
	for _, name := range names {
		p.Variants = append(p.Variants, broker.Variant{
			Name: name, Cooldown: 10 * time.Minute, Source: broker.Source{Template: "t", Generation: "g-" + name},
		})
	}
	p.Source = p.Variants[0].Source
	return p
}

func drawVariants(t *rapid.T) (variants []broker.Variant) {
	for i := range max(0, rapid.IntRange(-2, 3).Draw(t, "variants")) {
		name := fmt.Sprintf("v%d", i)
		variants = append(variants, broker.Variant{
			Name: name, Cooldown: time.Duration(rapid.IntRange(1, 15).Draw(t, "cooldown")) * time.Minute,
			Source: broker.Source{Template: "t", Generation: "g-" + name},
		})
	}
	return variants
}

// drawFailures gives some of the variants of a pool no capacity, at some time.
func drawFailures(t *rapid.T, p broker.Pool) map[string]broker.VariantHealth {
	all := make(map[string]broker.VariantHealth)
	for _, v := range p.Variants {
		if rapid.Bool().Draw(t, "no capacity") {
			all[v.Name] = broker.VariantHealth{
				FailedAt: t0.Add(-time.Duration(rapid.IntRange(0, 1200).Draw(t, "since")) * time.Second), Class: broker.FailureNoCapacity,
			}
		}
	}
	return all
}

// wrongVariant says why a create may not be of the variant that it is of; "" if it
// may. tries are the creates of the same plan so far, and counted on.
func wrongVariant(w World, p broker.Pool, a Action, tries map[string]int) string {
	key := func(variant string) string { return p.Name + "/" + variant }
	defer func() { tries[key(a.Variant)]++ }()
	if len(p.Variants) == 0 && a.Variant == "" {
		return ""
	}
	out := func(v broker.Variant) (nodes int) {
		for _, n := range w.Nodes {
			counts := comes(n.State) && !n.ToBeHeld() && n.Interruption == nil // else it is as good as gone
			if counts && n.Pool == p.Name && n.Source.Generation == v.Source.Generation {
				nodes++
			}
		}
		return nodes + tries[key(v.Name)]
	}
	for _, v := range p.Variants {
		failure, failed := w.Health[p.Name].Variants[v.Name]
		cools := failed && failure.FailedAt.Add(v.Cooldown).After(t0)
		tried := failed && out(v) > 0
		switch free := !cools && !tried; {
		case v.Name == a.Variant && cools:
			return "it cools down"
		case v.Name == a.Variant && tried:
			return "one node tries it already"
		case v.Name == a.Variant:
			return ""
		case free:
			return v.Name + " comes before it, and is free"
		}
	}
	return "there is no such variant"
}

func TestPlanVariants(t *testing.T) {
	p := variantPool(3, 9, "spot", "demand")
	no := func(ago time.Duration) broker.VariantHealth {
		return broker.VariantHealth{FailedAt: t0.Add(-ago), Class: broker.FailureNoCapacity}
	}
	health := func(spot, demand time.Duration) map[string]broker.VariantHealth {
		all := map[string]broker.VariantHealth{}
		if spot > 0 {
			all["spot"] = no(spot)
		}
		if demand > 0 {
			all["demand"] = no(demand)
		}
		return all
	}
	of := func(id int64, variant string, state broker.NodeState) broker.Node {
		way, _ := p.As(variant)
		return testNode(id, way, state)
	}
	plain := testPool("a", 3, 9)
	older := plain
	older.Source.Generation = "g-demand"
	many := []broker.Node{}
	for id := int64(1); id <= 9; id++ {
		many = append(many, of(id, "spot", broker.NodeFailed))
	}
	tests := []struct {
		name   string
		nodes  []broker.Node
		health broker.PoolHealth
		want   []string // kind, variant and reason
		due    time.Time
	}{
		{
			name: "the first one",
			want: []string{"create_node spot: variant spot", "create_node spot: variant spot", "create_node spot: variant spot"},
		},
		{
			name:   "the next one while the first cools down",
			nodes:  []broker.Node{of(1, "spot", broker.NodeReady), of(2, "spot", broker.NodeReady)},
			health: broker.PoolHealth{Variants: health(time.Minute, 0)},
			want:   []string{"create_node demand: variant demand, since spot had no_capacity"},
		},
		{
			name:   "after its cooldown one node tries it, and the others need not wait",
			health: broker.PoolHealth{Variants: health(10*time.Minute, 0)},
			want: []string{
				"create_node spot: variant spot",
				"create_node demand: variant demand, since spot had no_capacity", "create_node demand: variant demand, since spot had no_capacity",
			},
		},
		{
			name:   "no second one tries it meanwhile",
			nodes:  []broker.Node{of(1, "spot", broker.NodeApplying), of(2, "demand", broker.NodeReady)},
			health: broker.PoolHealth{Variants: health(11*time.Minute, 0)},
			want:   []string{"apply_node : its run is to be watched", "create_node demand: variant demand, since spot had no_capacity"},
		},
		{
			name:   "all cool down: nothing is made before the first is free",
			health: broker.PoolHealth{Failures: 1, LastFailure: t0.Add(-time.Minute), Variants: health(2*time.Minute, time.Minute)},
			due:    t0.Add(8 * time.Minute),
		},
		{
			name:   "and no destroy is urgent",
			nodes:  many,
			health: broker.PoolHealth{Failures: 1, LastFailure: t0.Add(-time.Minute), Variants: health(2*time.Minute, time.Minute)},
			want:   []string{"destroy_node : ", "destroy_node : ", "destroy_node : ", "destroy_node : "},
		},
		{
			name:   "all had none: one node each, after their cooldowns",
			health: broker.PoolHealth{Failures: 1, LastFailure: t0.Add(-12 * time.Minute), Variants: health(11*time.Minute, 12*time.Minute)},
			want:   []string{"create_node spot: variant spot", "create_node demand: variant demand, since spot had no_capacity"},
		},
		{
			name:   "one is tried, the other cools down",
			nodes:  []broker.Node{of(1, "spot", broker.NodeChecking)},
			health: broker.PoolHealth{Failures: 1, LastFailure: t0.Add(-time.Minute), Variants: health(11*time.Minute, time.Minute)},
			want:   []string{"check_node : "},
			due:    t0.Add(9 * time.Minute),
		},
		{
			name:   "other failures rest the pool as ever",
			health: broker.PoolHealth{Failures: 4, LastFailure: t0, Variants: health(time.Minute, 0)},
			due:    t0.Add(20 * time.Second),
		},
		{
			name:  "nodes of every variant are current, and so are those from before there were any",
			nodes: []broker.Node{of(1, "spot", broker.NodeReady), of(2, "demand", broker.NodeReady), testNode(3, older, broker.NodeReady)},
		},
		{
			name:  "a node that no variant makes is stale",
			nodes: []broker.Node{of(1, "spot", broker.NodeReady), of(2, "demand", broker.NodeReady), testNode(3, plain, broker.NodeReady)},
			want:  []string{"start_rollout : 1 node is stale", "create_node spot: replaces a stale node; variant spot"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.health.Pool, test.health.Generation = "a", p.Generation()
			actions, due := Plan(t0, World{Pools: []broker.Pool{p}, Nodes: test.nodes, Runs: 100, Health: map[string]broker.PoolHealth{"a": test.health}})
			var got []string
			for _, a := range actions {
				got = append(got, fmt.Sprintf("%s %s: %s", a.Kind, a.Variant, a.Reason))
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

func TestHealthOfVariants(t *testing.T) {
	p := variantPool(3, 9, "spot", "demand")
	fresh := broker.PoolHealth{Pool: "a"}
	node := func(variant string, class broker.FailureClass) broker.Node {
		way, _ := p.As(variant)
		n := testNode(1, way, broker.NodeFailed)
		n.Variant, n.Failure, n.FailureClass = "whatever it was called", "create: no", class
		return n
	}
	spot, demand := node("spot", broker.FailureNoCapacity), node("demand", broker.FailureQuota)
	// summary tells what counts, and what cools down.
	summary := func(h broker.PoolHealth) string {
		var names []string
		for name, failure := range h.Variants {
			names = append(names, name+" "+string(failure.Class))
		}
		slices.Sort(names)
		return fmt.Sprintf("%d %v", h.Failures, names)
	}
	step := func(got broker.PoolHealth, want string) broker.PoolHealth {
		t.Helper()
		if got.Generation != p.Generation() || summary(got) != want {
			t.Errorf("health %s (generation %s), want %s", summary(got), got.Generation, want)
		}
		return got
	}
	one := step(failed(p, fresh, spot, t0), "0 [spot no_capacity]")
	both := step(failed(p, one, demand, t0.Add(time.Minute)), "1 [demand quota spot no_capacity]")
	if both.Class != broker.FailureQuota || both.LastFailure != t0.Add(time.Minute) || both.Message != "create: no" {
		t.Errorf("all cool down: %+v", both)
	}
	step(failed(p, one, demand, t0.Add(10*time.Minute)), "0 [demand quota spot no_capacity]")
	step(failed(p, one, node("spot", broker.FailureOther), t0), "1 [spot no_capacity]")
	step(failed(p, one, node("demand", broker.FailureTimeout), t0), "1 [spot no_capacity]")
	if again := failed(p, one, spot, t0.Add(time.Minute)); again.Variants["spot"].FailedAt != t0.Add(time.Minute) || one.Variants["spot"].FailedAt != t0 {
		t.Errorf("the record of before was changed, or that of now was not: %+v, %+v", one, again)
	}

	later := spot
	later.CreatedAt = t0.Add(10 * time.Minute)
	step(succeeded(p, both, later), "0 [demand quota]")
	step(succeeded(p, both, node("demand", "")), "0 [demand quota spot no_capacity]") // it was begun before that failed
	earlier := spot
	earlier.CreatedAt = t0.Add(-time.Second)
	step(succeeded(p, both, earlier), "0 [demand quota spot no_capacity]")

	renamed := p
	renamed.Variants = slices.Clone(p.Variants)
	renamed.Variants[0].Name = "cheap"
	step(succeeded(renamed, both, later), "0 [demand quota]")
	changed := both
	changed.Generation = "another"
	step(failed(p, changed, spot, t0), "0 [spot no_capacity]")
	// Without variants everything counts.
	plain := testPool("a", 3, 9)
	n := testNode(1, plain, broker.NodeFailed)
	n.FailureClass = broker.FailureNoCapacity
	if h := failed(plain, fresh, n, t0); h.Failures != 1 || len(h.Variants) != 0 {
		t.Errorf("without variants: %+v", h)
	}
}
