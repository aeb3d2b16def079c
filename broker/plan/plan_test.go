package plan_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func testPool(name string, fill, most int, generation string) broker.Pool {
	return broker.Pool{Name: name, FillLevel: fill, MaxNodes: most, Concurrency: 4, Source: broker.Source{Template: "t", Generation: generation}}
}

func config(pools ...broker.Pool) plan.Config { return plan.Config{Pools: pools} }

// A pool that is moved keeps its stock and its sessions under its new name.
func TestMovedPoolKeepsItsStock(t *testing.T) {
	before := config(testPool("old", 2, 4, "g"))
	after := config(testPool("new", 2, 4, "g"))
	w := plan.Full(t0, before, 8)
	lent := broker.Node{ID: 3, Pool: "old", State: broker.NodeDeployed, SessionID: 1, Source: before.Pools[0].Source}
	w.Nodes = append(w.Nodes, lent)
	w.Sessions = []broker.Session{{ID: 1, State: broker.SessionActive, ExpiresAt: t0.Add(48 * time.Hour), Nodes: []broker.LentNode{{ID: 3, Pool: "old"}}}}

	p := plan.Compute(t0, before, after, w, plan.Options{})
	if p.Summary.StockDestroyed != 2 || p.ExitCode() != plan.ExitDanger {
		t.Errorf("without a move, %d nodes are destroyed, exit code %d; want 2, 3", p.Summary.StockDestroyed, p.ExitCode())
	}
	if diff := cmp.Diff([]plan.Move{{From: "old", To: "new"}}, p.Moves); diff != "" {
		t.Errorf("suggested moves (-want +got):\n%s", diff)
	}

	after.Moves = []broker.Move{{From: "old", To: "new"}}
	moved := plan.Compute(t0, before, after, w, plan.Options{})
	if moved.Summary.Moved != 1 || moved.Summary.StockDestroyed != 0 || len(moved.Actions) != 0 || moved.ExitCode() != plan.ExitChanges {
		t.Errorf("with a move: %+v, actions %v, exit code %d", moved.Summary, moved.Actions, moved.ExitCode())
	}
	pool := moved.Pools[0]
	if pool.Kind != plan.Moved || pool.From != "old" || pool.Stock.Ready != 2 || len(pool.Lent) != 1 || len(moved.Moves) != 0 {
		t.Errorf("the moved pool: %+v", pool)
	}
	if moved.ID == p.ID {
		t.Error("a move has the id of a removal")
	}
	if w.Nodes[0].Pool != "old" {
		t.Error("the caller's nodes were renamed")
	}
}

// What would leave the stock anyway is not this change's doing.
func TestWhatGoesAnywayDoesNotCount(t *testing.T) {
	before, after := config(testPool("a", 2, 4, "g")), config(testPool("a", 2, 4, "g"))
	after.Pools[0].Description = "another"
	w := plan.Full(t0, config(testPool("a", 3, 4, "g")), 8) // one too many
	p := plan.Compute(t0, before, after, w, plan.Options{})
	if p.Summary.StockDestroyed != 0 || len(p.Actions) == 0 || p.ExitCode() != plan.ExitChanges {
		t.Errorf("%d nodes are destroyed by a description, %d actions, exit code %d", p.Summary.StockDestroyed, len(p.Actions), p.ExitCode())
	}
}

func TestPolicy(t *testing.T) {
	before, after := config(testPool("a", 2, 4, "g")), config(testPool("a", 3, 4, "g"))
	o := plan.Options{
		Policy: []plan.PolicyResult{{Rule: "ceiling", Pool: "a", Message: "too many"}},
	}
	p := plan.Compute(t0, before, after, plan.Full(t0, before, 8), o)
	if p.ExitCode() != plan.ExitChanges {
		t.Errorf("with a warning the exit code is %d, want 2", p.ExitCode())
	}
	o.Policy[0].Deny = true
	if p := plan.Compute(t0, before, after, plan.Full(t0, before, 8), o); p.ExitCode() != plan.ExitDanger || !p.Summary.Denied {
		t.Errorf("denied, the exit code is %d, want 3", p.ExitCode())
	}
	if p := plan.Compute(t0, before, before, plan.Full(t0, before, 8), o); p.ExitCode() != plan.ExitNone {
		t.Errorf("without a change there is nothing to deny, and the exit code is %d", p.ExitCode())
	}
}

// A schedule is part of the forecast, of the cost, and of what a plan says next.
func TestSchedule(t *testing.T) {
	before := config(testPool("a", 2, 8, "g"))
	before.Pools[0].HourlyCost = 1
	after := config(before.Pools[0])
	after.Pools[0].Schedule = []broker.Window{{Name: "day", Cron: "0 13 * * *", Duration: 12 * time.Hour, FillLevel: 6, MaxNodes: 8}}
	p := plan.Compute(t0, before, after, plan.Full(t0, before, 8), plan.Options{})
	pool := p.Pools[0]
	want := []plan.ScheduleChange{
		{At: t0.Add(time.Hour), FillLevel: 6, MaxNodes: 8, Window: "day"},
		{At: t0.Add(13 * time.Hour), FillLevel: 2, MaxNodes: 8},
		{At: t0.Add(25 * time.Hour), FillLevel: 6, MaxNodes: 8, Window: "day"},
		{At: t0.Add(37 * time.Hour), FillLevel: 2, MaxNodes: 8},
		{At: t0.Add(49 * time.Hour), FillLevel: 6, MaxNodes: 8, Window: "day"},
	}
	if diff := cmp.Diff(want, pool.Schedule); diff != "" {
		t.Errorf("next changes (-want +got):\n%s", diff)
	}
	if pool.Ready.Now != 2 || pool.Ready.Lowest != 2 || pool.Ready.End != 2 || len(pool.Ready.Points) < 3 {
		t.Errorf("ready %+v, want 2, then 6, then 2", pool.Ready)
	}
	if diff := cmp.Diff(&plan.Cost{Before: 48, After: 96}, pool.Cost); diff != "" {
		t.Errorf("cost of 2, and of 2 and 6 half of the time each (-want +got):\n%s", diff)
	}
	if without := plan.Compute(t0, before, before, plan.Full(t0, before, 8), plan.Options{}); without.ID == p.ID {
		t.Error("a schedule makes no other id")
	}
	// Where a window is open, the stock is full by its numbers.
	if n := len(plan.Full(t0.Add(time.Hour), after, 8).Nodes); n != 6 {
		t.Errorf("%d nodes are full stock while the window is open, want 6", n)
	}
}

// Stock that gets too old by a new setting is destroyed by it.
func TestMaxAge(t *testing.T) {
	before, after := config(testPool("a", 2, 4, "g")), config(testPool("a", 2, 4, "g"))
	after.Pools[0].MaxAge = 24 * time.Hour
	w := plan.Full(t0.Add(-36*time.Hour), before, 8)
	p := plan.Compute(t0, before, after, w, plan.Options{})
	if p.Summary.StockDestroyed != 2 || p.ExitCode() != plan.ExitDanger {
		t.Errorf("%d nodes of 36 hours are destroyed, exit code %d; want 2, 3", p.Summary.StockDestroyed, p.ExitCode())
	}
	if p := plan.Compute(t0, after, after, w, plan.Options{}); p.Summary.StockDestroyed != 0 || len(p.Actions) == 0 {
		t.Errorf("where it was so before, %d nodes are destroyed by the change, with %d actions", p.Summary.StockDestroyed, len(p.Actions))
	}
}

// A hash that is made in another way is told from a change of what goes into it.
func TestWhyAGenerationIsAnother(t *testing.T) {
	before, after := config(testPool("a", 1, 2, "g1")), config(testPool("a", 1, 2, "g2"))
	reason := func() []plan.Input {
		t.Helper()
		p := plan.Compute(t0, before, after, plan.Full(t0, before, 8), plan.Options{MaskKey: []byte("k")})
		if p.Pools[0].Generation == nil {
			t.Fatal("no change of the generation")
		}
		return p.Pools[0].Generation.Inputs
	}
	if diff := cmp.Diff([]plan.Input{{Kind: plan.InputHash, How: "changed"}}, reason()); diff != "" {
		t.Errorf("nothing else (-want +got):\n%s", diff)
	}
	after.Pools[0].Source.Template, after.Pools[0].Module = "t2", "./modules/node"
	if diff := cmp.Diff([]plan.Input{{Kind: plan.InputModule, Name: "./modules/node", How: "changed"}}, reason()); diff != "" {
		t.Errorf("a module that is not kept (-want +got):\n%s", diff)
	}
	before.Modules = map[string]broker.Module{"t": {Files: map[string]string{"main.tf": "1"}, LockUnknown: true}}
	after.Modules = map[string]broker.Module{"t2": {Files: map[string]string{"main.tf": "1", ".terraform.lock.hcl": "2"}}}
	if diff := cmp.Diff([]plan.Input{{Kind: plan.InputLock, Name: ".terraform.lock.hcl", How: "changed"}}, reason()); diff != "" {
		t.Errorf("a lock file of which one side knows nothing (-want +got):\n%s", diff)
	}
	after.Pools[0].Source.Template, after.Modules = "t", nil
	before.Pools[0].Variables = json.RawMessage(`{"a":"x"}`)
	after.Pools[0].Variables = json.RawMessage(`{"a":` + string(broker.Mask([]byte("k"), json.RawMessage(`"x"`))) + `,"b":1}`)
	if diff := cmp.Diff([]plan.Input{{Kind: plan.InputVariable, Name: "b", How: "added"}}, reason()); diff != "" {
		t.Errorf("a variable that is sensitive from now on (-want +got):\n%s", diff)
	}
}

// A followed output counts with another value than at first, as long as it is followed.
func TestFollowedOutputsInAPlan(t *testing.T) {
	before := testPool("a", 1, 2, "g2")
	before.Follow = broker.Follow{Outputs: []string{"ami", "image"}, Every: time.Hour}
	before.Followed = broker.Followed{Pool: "a", Base: "g1", First: map[string]string{"ami": "1", "image": "1"}, Values: map[string]string{"ami": "1", "image": "2"}, At: t0}
	after := before
	after.Followed.At = t0.Add(time.Hour)
	if p := plan.Compute(t0, config(before), config(after), plan.Full(t0, config(before), 8), plan.Options{}); p.Summary.Changes() {
		t.Errorf("the same values are a change: %+v", p.Pools[0])
	}
	after.Follow, after.Source.Generation = broker.Follow{}, "g1"
	p := plan.Compute(t0, config(before), config(after), plan.Full(t0, config(before), 8), plan.Options{})
	if p.Pools[0].Generation == nil {
		t.Fatal("no change of the generation")
	}
	if diff := cmp.Diff([]plan.Input{{Kind: plan.InputFollowed, Name: "image", How: "removed"}}, p.Pools[0].Generation.Inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	for _, f := range p.Pools[0].Fields {
		if !strings.HasPrefix(f.Name, "follow.") {
			t.Errorf("field %s is no setting", f.Name)
		}
	}
}

// Settings that later versions add are compared without a line of code here.
func TestEveryFieldOfAPoolIsCompared(t *testing.T) {
	before := testPool("a", 1, 2, "g")
	after := before
	after.Ready.Timeout, after.CreateTimeout, after.NoLegacy = time.Minute, 90*time.Minute, true
	after.Labels = map[string]string{"team": "ci"}
	p := plan.Compute(t0, config(before), config(after), plan.Full(t0, config(before), 8), plan.Options{})
	got := make(map[string]string)
	for _, f := range p.Pools[0].Fields {
		got[f.Name] = fmt.Sprintf("%s -> %s", f.Old, f.New)
	}
	want := map[string]string{
		"ready.timeout": `"0s" -> "1m"`, "create_timeout": `"0s" -> "1h30m"`, "legacy": "true -> false", "labels.team": ` -> "ci"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

// However much there is to do, looking ahead has an end, and says how coarse it is.
func TestEffortIsBounded(t *testing.T) {
	var before, after plan.Config
	for i := range 20 {
		p := testPool(fmt.Sprint("pool-", i), 10, 12, "g1")
		before.Pools = append(before.Pools, p)
		p.Source.Generation = "g2"
		after.Pools = append(after.Pools, p)
	}
	w := plan.Full(t0, before, 8)
	exact := plan.Compute(t0, before, after, w, plan.Options{})
	if exact.Assumed.Window != 0 || !exact.Summary.Complete {
		t.Errorf("200 nodes are too many to be exact: window %v, %+v", exact.Assumed.Window, exact.Summary)
	}
	coarse := plan.Compute(t0, before, after, w, plan.Options{Effort: 20_000})
	if coarse.Assumed.Window == 0 {
		t.Error("a small effort is exact")
	}
	if len(coarse.Actions) >= 2*len(exact.Actions) {
		t.Errorf("%d actions, %d of them exactly", len(coarse.Actions), len(exact.Actions))
	}
}

func TestSecondsInJSON(t *testing.T) {
	raw, err := json.Marshal(plan.Seconds(1500 * time.Millisecond))
	if err != nil || string(raw) != "1.5" {
		t.Errorf("%s, %v", raw, err)
	}
	var s plan.Seconds
	if err := json.Unmarshal(raw, &s); err != nil || time.Duration(s) != 1500*time.Millisecond {
		t.Errorf("%v, %v", time.Duration(s), err)
	}
}

// A snapshot of a running broker has work in progress; after a stop nobody is busy.
func TestWorldOfASnapshot(t *testing.T) {
	s := broker.Snapshot{
		At: t0, Running: broker.Running{Runs: 3},
		Nodes: []broker.SnapshotNode{
			{ID: 1, Pool: "a", State: broker.NodeApplying},
			{ID: 2, Pool: "a", State: broker.NodeReady},
			{ID: 3, Pool: "a", State: broker.NodeContextualizing, SessionID: 1},
			{ID: 4, Pool: "a", State: broker.NodeReleasing, Touched: true},
			{ID: 5, Pool: "a", State: broker.NodeDestroying, Attempts: 2, RetryAt: t0.Add(time.Minute)},
			{ID: 6, Pool: "a", State: broker.NodeChecking, Held: true, Interrupted: true},
		},
		Sessions: []broker.SnapshotSession{{ID: 1, State: broker.SessionPreparing, ExpiresAt: t0.Add(time.Hour), Nodes: []int64{3}}},
	}
	running, stopped := plan.World(s, true), plan.World(s, false)
	if diff := cmp.Diff(map[int64]bool{1: true, 4: true, 6: true}, running.Busy); diff != "" {
		t.Errorf("busy (-want +got):\n%s", diff)
	}
	if len(stopped.Busy) != 0 || stopped.Sessions[0].State != broker.SessionPreparing || running.Sessions[0].State != broker.SessionActive {
		t.Errorf("busy %v, sessions %s and %s", stopped.Busy, stopped.Sessions[0].State, running.Sessions[0].State)
	}
	if running.Nodes[2].State != broker.NodeDeployed || !running.Nodes[5].ToBeHeld() || running.Nodes[5].Interruption == nil || running.Nodes[4].Interruption != nil || running.Runs != 3 {
		t.Errorf("nodes %+v", running.Nodes)
	}
	if got := reconcileKinds(stopped); got[reconcile.AbandonSession] != 1 {
		t.Errorf("after a stop: %v, want the request abandoned", got)
	}
}

func reconcileKinds(w reconcile.World) map[reconcile.Kind]int {
	kinds := make(map[reconcile.Kind]int)
	actions, _ := reconcile.Plan(t0, w)
	for _, a := range actions {
		kinds[a.Kind]++
	}
	return kinds
}

// Variants are compared by name; what all of them have of the pool is told once.
// Their order is told, and makes nothing stale.
func TestVariants(t *testing.T) {
	pool := func(generation, variables string, names ...string) broker.Pool {
		p := testPool("a", 2, 4, generation)
		p.Variables = json.RawMessage(`{` + variables + `}`)
		for _, name := range names {
			p.Variants = append(p.Variants, broker.Variant{
				Name: name, Cooldown: 10 * time.Minute, Source: broker.Source{Template: p.Source.Template, Generation: generation + name},
				Variables: json.RawMessage(`{"zone": "` + name + `", ` + variables + `}`),
			})
		}
		if len(p.Variants) > 0 {
			p.Source = p.Variants[0].Source
		}
		return p
	}
	secretly := pool("g1", `"size": "s"`, "x", "y")
	secretly.Variants[1].Variables = json.RawMessage(`{"zone": {"$sensitive": "123"}, "size": "s"}`)
	secretly.Variants[1].Source.Generation = "g2y"
	longer := pool("g1", `"size": "s"`, "x", "y")
	longer.Variants[0].Cooldown = time.Hour
	tests := map[string]struct {
		before, after  broker.Pool
		fields, inputs []string
		stale          int
	}{
		"nothing": {pool("g1", `"size": "s"`, "x", "y"), pool("g1", `"size": "s"`, "x", "y"), nil, nil, 0},
		"order":   {pool("g1", `"size": "s"`, "x", "y"), pool("g1", `"size": "s"`, "y", "x"), []string{`variants ["x","y"] ["y","x"]`}, nil, 0},
		"cooldown": {
			pool("g1", `"size": "s"`, "x", "y"), longer, []string{`variants.x.cooldown "10m" "1h"`}, nil, 0,
		},
		"a variable of all": {
			pool("g1", `"size": "s"`, "x", "y"), pool("g2", `"size": "l"`, "x", "y"),
			[]string{`variables.size "s" "l"`},
			[]string{"variable size changed"},
			2,
		},
		"a secret variable of one": {
			pool("g1", `"size": "s"`, "x", "y"), secretly, []string{`variants.y.variables.zone  `}, []string{"variable y.zone changed"}, 0,
		},
		"one more": {
			pool("g1", `"size": "s"`, "x"), pool("g1", `"size": "s"`, "x", "y"),
			[]string{`variants.y.cooldown  "10m"`, `variants ["x"] ["x","y"]`, `variants.y.variables.zone  "y"`},
			[]string{"variable y.zone added", "variant y added"},
			0,
		},
		"one less": {
			pool("g1", `"size": "s"`, "x", "y"), pool("g1", `"size": "s"`, "y"),
			[]string{`variants ["x","y"] ["y"]`, `variants.x.cooldown "10m" `},
			[]string{"variant x removed"},
			2,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before, after := config(test.before), config(test.after)
			p := plan.Compute(t0, before, after, plan.Full(t0, before, 8), plan.Options{MaskKey: []byte("key")})
			var fields, inputs []string
			for _, f := range p.Pools[0].Fields {
				fields = append(fields, fmt.Sprintf("%s %s %s", f.Name, f.Old, f.New))
			}
			if g := p.Pools[0].Generation; g != nil {
				for _, in := range g.Inputs {
					inputs = append(inputs, fmt.Sprintf("%s %s %s", in.Kind, in.Name, in.How))
				}
			}
			if diff := cmp.Diff([][]string{test.fields, test.inputs}, [][]string{fields, inputs}); diff != "" {
				t.Errorf("fields and inputs (-want +got):\n%s", diff)
			}
			if got := p.Pools[0].Stock.Stale; got != test.stale || len(p.Pools[0].Stock.TurnStale) != test.stale {
				t.Errorf("%d nodes are stale, want %d: %+v", got, test.stale, p.Pools[0].Stock)
			}
		})
	}
}

// A forecast makes nodes of the variant that the loop would take, and remembers
// which one had no capacity.
func TestForecastOfVariants(t *testing.T) {
	p := testPool("a", 3, 6, "g1")
	p.Concurrency = 1
	for _, name := range []string{"near", "far"} {
		p.Variants = append(p.Variants, broker.Variant{Name: name, Cooldown: 7 * time.Minute, Source: broker.Source{Template: "t", Generation: "g-" + name}})
	}
	p.Source = p.Variants[0].Source
	w := reconcile.World{Runs: 8, Health: map[string]broker.PoolHealth{"a": {
		Pool: "a", Generation: p.Generation(),
		Variants: map[string]broker.VariantHealth{"near": {FailedAt: t0.Add(-time.Minute), Class: broker.FailureNoCapacity}},
	}}}
	got := plan.Compute(t0, config(p), config(p), w, plan.Options{})
	var reasons []string
	for _, a := range got.Actions {
		if a.Kind == reconcile.CreateNode {
			reasons = append(reasons, a.Reason)
		}
	}
	const far = "variant far, since near had no_capacity"
	if diff := cmp.Diff([]string{far, far, far}, reasons); diff != "" {
		t.Errorf("creates (-want +got):\n%s", diff)
	}
}

// Only a broker knows what it has seen of followed outputs. Where that counts, a plan
// without it has another id, and says that it may; a plan that knows has the same
// one, wherever it is made.
func TestPlanOfFollowedOutputs(t *testing.T) {
	pool := func(fill int, values ...string) broker.Pool {
		p := testPool("a", fill, 4, "base")
		p.Follow = broker.Follow{Outputs: []string{"image"}, Every: time.Hour}
		for _, v := range values {
			p.Followed = p.Followed.See("base", map[string]string{"image": v}, t0)
		}
		p.Source.Generation = p.GenerationOver("base")
		return p
	}
	compute := func(o plan.Options, values ...string) plan.Plan {
		before, after := config(pool(3, values...)), config(pool(2, values...))
		return plan.Compute(t0, before, after, plan.Full(t0, before, 8), o)
	}
	base := plan.Options{Against: plan.Against{Kind: "base", AssumedFull: true}}
	unknown, first, newer := compute(base), compute(plan.Options{}, "1"), compute(plan.Options{}, "1", "2")
	if unknown.ID != first.ID || unknown.ID == newer.ID {
		t.Errorf("ids %s without a broker, %s with the first value, %s with another", unknown.ID, first.ID, newer.ID)
	}
	if len(unknown.Notes) != 1 || !strings.Contains(unknown.Notes[0], "(a)") || !strings.Contains(unknown.Notes[0], "--server") {
		t.Errorf("notes without a broker: %q", unknown.Notes)
	}
	if len(first.Notes)+len(newer.Notes) > 0 || newer.ID != compute(plan.Options{}, "1", "2").ID {
		t.Errorf("notes with a broker: %q and %q", first.Notes, newer.Notes)
	}
	plain := config(testPool("a", 2, 4, "base"))
	if p := plan.Compute(t0, plain, plain, plan.Full(t0, plain, 8), base); len(p.Notes) > 0 {
		t.Errorf("nothing is followed, and the plan says %q", p.Notes)
	}
}

// Settings are told by the names and with the values that they have in the file, and
// what is not there any more as that.
func TestFieldsAreThoseOfTheFile(t *testing.T) {
	before := broker.Pool{
		Name: "a", Tenants: []string{"ci"}, Follow: broker.Follow{Outputs: []string{"image"}, Every: time.Hour}, MaxAge: time.Hour,
	}
	after := broker.Pool{Name: "a", NoLegacy: true, Rollout: broker.RolloutSettings{NoStale: true}}
	fields := func(from, to broker.Pool) (lines []string) {
		p := plan.Compute(t0, plan.Config{Pools: []broker.Pool{from}}, plan.Config{Pools: []broker.Pool{to}}, reconcile.World{Runs: 1}, plan.Options{})
		for _, f := range p.Pools[0].Fields {
			lines = append(lines, fmt.Sprintf("%s %s %s", f.Name, f.Old, f.New))
		}
		return lines
	}
	want := []string{
		"legacy true false", "rollout.serve_stale true false", `max_age "1h" "0s"`,
		`tenants ["ci"] `, `follow.outputs ["image"] `, `follow.every "1h" `,
	}
	if diff := cmp.Diff(want, fields(before, after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = []string{
		"legacy false true", `tenants  ["ci"]`, "rollout.serve_stale false true", `max_age "0s" "1h"`,
		`follow.outputs  ["image"]`, `follow.every  "1h"`,
	}
	if diff := cmp.Diff(want, fields(after, before)); diff != "" {
		t.Errorf("back (-want +got):\n%s", diff)
	}
}
