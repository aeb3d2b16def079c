package broker_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// variantPool gives a pool with variants of these names and generations, in turn.
func variantPool(namesAndGenerations ...string) broker.Pool {
	p := testPool("small", broker.ContextualizeSSH)
	for i := 0; i < len(namesAndGenerations); i += 2 {
		p.Variants = append(p.Variants, broker.Variant{
			Name: namesAndGenerations[i], Cooldown: 10 * time.Minute, Source: broker.Source{Template: "t", Generation: namesAndGenerations[i+1]},
			Variables: json.RawMessage(`{"zone":"` + namesAndGenerations[i] + `"}`),
		})
	}
	if len(p.Variants) > 0 {
		p.Source = p.Variants[0].Source
	}
	return p
}

func TestCurrent(t *testing.T) {
	node := func(generation string) broker.Node {
		return broker.Node{Source: broker.Source{Generation: generation}, Variant: "any"}
	}
	tests := []struct {
		name string
		pool broker.Pool
		node broker.Node
		want bool
	}{
		{"no variants", variantPool(), node("g1"), true},
		{"no variants, another generation", variantPool(), node("g0"), false},
		{"the first", variantPool("a", "g1", "b", "g2"), node("g1"), true},
		{"the last", variantPool("a", "g1", "b", "g2"), node("g2"), true},
		{"renamed", variantPool("z", "g2", "b", "g1"), node("g2"), true},
		{"changed", variantPool("a", "g3", "b", "g2"), node("g1"), false},
		{"removed", variantPool("b", "g2"), node("g1"), false},
		{"only one left, as a pool without variants", variantPool(), node("g2"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.pool.Current(test.node); got != test.want {
				t.Errorf("current %t, want %t", got, test.want)
			}
			test.pool.Rollout.NoStale = true
			if got := test.pool.Lendable(test.node); got != test.want {
				t.Errorf("lendable %t, want %t", got, test.want)
			}
		})
	}
}

func TestGenerationOfVariants(t *testing.T) {
	if g := variantPool().Generation(); g != "g1" {
		t.Errorf("without variants the generation is %q, not that of the source", g)
	}
	g := variantPool("a", "g1", "b", "g2").Generation()
	if len(g) != 24 || g == "g1" || g == "g2" {
		t.Errorf("generation %q", g)
	}
	for name, p := range map[string]broker.Pool{
		"another name":  variantPool("x", "g1", "b", "g2"),
		"another order": variantPool("b", "g2", "a", "g1"),
	} {
		if p.Generation() != g {
			t.Errorf("%s: generation %q, want that of before", name, p.Generation())
		}
	}
	for name, p := range map[string]broker.Pool{
		"another source": variantPool("a", "g1", "b", "g3"),
		"one more":       variantPool("a", "g1", "b", "g2", "c", "g3"),
		"one less":       variantPool("a", "g1"),
	} {
		if p.Generation() == g {
			t.Errorf("%s: the generation is as before", name)
		}
	}
}

func TestAs(t *testing.T) {
	p := variantPool("a", "g1", "b", "g2")
	b, ok := p.As("b")
	n := broker.NewNode(b, t0)
	if !ok || n.Variant != "b" || n.Source.Generation != "g2" || string(b.Variables) != `{"zone":"b"}` {
		t.Errorf("as b: %t, %+v", ok, n)
	}
	if n := broker.NewNode(p, t0); n.Variant != "a" || n.Source.Generation != "g1" {
		t.Errorf("a node of nothing in particular: %+v, want one of the first variant", n)
	}
	if n := broker.NewNode(variantPool(), t0); n.Variant != "" {
		t.Errorf("a node of a pool without variants is of variant %q", n.Variant)
	}
	for _, name := range []string{"", "c"} {
		if _, ok := p.As(name); ok {
			t.Errorf("there is a variant %q", name)
		}
	}
	if _, ok := variantPool().As("a"); ok {
		t.Error("there is a variant in a pool without any")
	}
	if same, ok := variantPool().As(""); !ok || !cmp.Equal(same, variantPool()) {
		t.Error("a pool without variants is not itself")
	}
}

// Status, move and snapshot of a pool know its variants.
func TestPoolStatusOfVariants(t *testing.T) {
	ctx := context.Background()
	p := variantPool("a", "g1", "b", "g2")
	pools := new(broker.PoolSet)
	pools.Set([]broker.Pool{p})
	store := memory.New()
	b := broker.New(broker.Config{
		Store: store, Keys: plainKeys{}, Pools: pools, Outlook: reconcile.Outlook{}, Modules: sensitive{}, Now: func() time.Time { return t0 }, Wake: func() {},
	})
	failure := broker.VariantHealth{FailedAt: t0.Add(-time.Minute), Class: broker.FailureQuota, Message: "create: no more"}
	health := broker.PoolHealth{Pool: "small", Generation: p.Generation(), Variants: map[string]broker.VariantHealth{"a": failure}}
	set := func(h broker.PoolHealth) {
		t.Helper()
		if err := store.Update(ctx, func(tx broker.Tx) error { return tx.SetPoolHealth(h) }); err != nil {
			t.Fatal(err)
		}
	}
	err := store.Update(ctx, func(tx broker.Tx) error {
		for i, state := range []broker.NodeState{broker.NodeReady, broker.NodeReady, broker.NodeDeployed, broker.NodeReady, broker.NodeGone} {
			n := broker.NewNode(p.Ways()[min(i, 1)], t0)
			n.State = state
			if i == 3 {
				n.Source.Generation = "g0"
			}
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	set(health)
	status := func() broker.PoolStatus {
		t.Helper()
		s, err := b.PoolStatus(ctx, broker.Tenant{ID: 1, IsAdmin: true}, "small")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := status()
	want := []broker.VariantStatus{{Name: "a", Ready: 1, Nodes: 1, Failure: failure, Cools: t0.Add(9 * time.Minute)}, {Name: "b", Ready: 1, Nodes: 2}}
	if diff := cmp.Diff(want, s.Variants); diff != "" || s.Stale != 1 || !s.NextTry.IsZero() {
		t.Errorf("%d stale nodes, next try %v, variants (-want +got):\n%s", s.Stale, s.NextTry, diff)
	}
	if s, err := b.PoolStatus(ctx, broker.Tenant{ID: 2}, "small"); err != nil || s.Variants != nil {
		t.Errorf("a tenant sees variants %+v, %v", s.Variants, err)
	}
	health.Variants["b"] = broker.VariantHealth{FailedAt: t0.Add(-3 * time.Minute), Class: broker.FailureNoCapacity}
	set(health)
	if s := status(); !s.NextTry.Equal(t0.Add(7 * time.Minute)) {
		t.Errorf("the next try is at %v, want when b is free", s.NextTry)
	}

	if err := b.MovePools(ctx, []broker.Move{{From: "small", To: "tiny"}}); err != nil {
		t.Fatal(err)
	}
	err = store.View(ctx, func(tx broker.ReadTx) error {
		h, err := tx.PoolHealth("tiny")
		if len(h.Variants) != 2 {
			t.Errorf("under its new name the pool has health %+v", h)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.Snapshot(ctx, broker.Tenant{ID: 1, IsAdmin: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{`"zone":"a"`, `"zone":"b"`, "no more"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("a snapshot tells %s:\n%s", secret, text)
		}
	}
	if h := snapshot.Health[0].Variants["a"]; h.Class != broker.FailureQuota {
		t.Errorf("a snapshot has the failure %+v", h)
	}
}

// sensitive is a reader of modules whose variable "zone" nobody is to see.
type sensitive struct{}

func (sensitive) ReadModule(string) (broker.Module, error) {
	return broker.Module{Sensitive: []string{"zone"}}, nil
}
