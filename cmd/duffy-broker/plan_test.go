package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// planCase is a change of the corpus in testdata/plan: the files before and after,
// and, unless the stock is taken for full, world.json.
type planCase struct {
	t   *testing.T
	dir string
}

var planStart = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// config reads one side. followed are the first and the last value that pools and
// their variants see of each output, by pool and variant.
func (c planCase) config(side string, followed map[string]map[string][2]string) plan.Config {
	c.t.Helper()
	dir := absoluteDir(filepath.Join(c.dir, side, "pools.hcl"))
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		return plan.Config{}
	}
	file, diags := config.Load(filepath.Join(dir, "pools.hcl"))
	if diags.HasErrors() {
		c.t.Fatal(diags)
	}
	rebase := func(p broker.Pool) broker.Pool { return broker.Rebased(p, dir, "/srv/pools") }
	with, err := configOf(file, []byte("key"), dir, rebase)
	if err != nil {
		c.t.Fatal(err)
	}
	known := make(map[string]broker.Followed)
	for _, p := range with.Pools {
		f, bases := broker.Followed{Pool: p.Name}, []string{}
		for _, way := range p.Ways() {
			bases = append(bases, way.Source.Generation)
		}
		for i, way := range p.Ways() {
			name := ""
			if len(p.Variants) > 0 {
				name = way.Variants[0].Name
			}
			if v, ok := followed[p.Name][name]; ok {
				first := f.See(bases[i], map[string]string{"image_id": v[0]}, planStart.Add(-2*time.Hour))
				one := f.With(first, bases).See(bases[i], map[string]string{"image_id": v[1]}, planStart.Add(-time.Hour))
				one.Variant = name
				f = f.With(one, bases)
			}
		}
		known[p.Name] = f
	}
	with, err = configOf(file, []byte("key"), dir, func(p broker.Pool) broker.Pool {
		p.Followed = known[p.Name]
		return rebase(p)
	})
	if err != nil {
		c.t.Fatal(err)
	}
	with.Inventories = file.Inventories
	return with
}

// compute plans the change.
func (c planCase) compute() plan.Plan {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "world.json"))
	if os.IsNotExist(err) {
		before, after := c.config("before", nil), c.config("after", nil)
		o := plan.Options{Against: plan.Against{Kind: "base", Name: "main (0123456789)", AssumedFull: true}, MaskKey: []byte("key")}
		w := plan.Full(planStart, before, 8)
		c.declare(&after, w)
		return plan.Compute(planStart, before, after, w, o)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var w struct {
		Running  bool
		Sessions []struct {
			ID      int64
			Expires string
			State   broker.SessionState
		}
		Nodes []struct {
			Pool    string
			State   broker.NodeState
			Count   int
			Session int64
			Age     string
			Older   bool
			Host    string // its name in the inventory of the pool
		}
		Tenants  []broker.SnapshotTenant
		Hosts    map[string]string // what is wrong with one, by name
		Followed map[string]map[string][2]string
		Observed map[string]struct{ Create, Check, Destroy string }
	}
	if err := json.Unmarshal(text, &w); err != nil {
		c.t.Fatal(err)
	}
	before, after := c.config("before", w.Followed), c.config("after", w.Followed)
	duration := func(text string) time.Duration {
		if text == "" {
			return 0
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			c.t.Fatal(err)
		}
		return d
	}
	s := broker.Snapshot{At: planStart, Running: broker.Running{Runs: 8}, Observed: map[string]broker.Timings{}}
	for _, session := range w.Sessions {
		state := session.State
		if state == "" {
			state = broker.SessionActive
		}
		s.Sessions = append(s.Sessions, broker.SnapshotSession{ID: session.ID, State: state, ExpiresAt: planStart.Add(duration(session.Expires))})
	}
	if s.Hosts, _, err = broker.Declared(nil, before.Inventories, 100, planStart.Add(-time.Hour)); err != nil {
		c.t.Fatal(err)
	}
	for i := range s.Hosts {
		switch h := &s.Hosts[i]; w.Hosts[h.Name] {
		case "quarantined":
			h.Failures, h.RetryAt = 1, planStart.Add(5*time.Minute)
		case "broken":
			h.Failures, h.BrokenAt = 2, planStart.Add(-time.Minute)
		}
	}
	for _, group := range w.Nodes {
		for range group.Count {
			n := broker.SnapshotNode{ID: int64(len(s.Nodes) + 1), Pool: group.Pool, State: group.State, Since: planStart.Add(-duration(group.Age)), SessionID: group.Session}
			for _, p := range before.Pools {
				if p.Name == group.Pool {
					n.Generation, n.Template = p.Source.Generation, p.Source.Template
				}
			}
			if group.Older {
				n.Generation = "older"
			}
			n.Touched = group.Session != 0
			for i := range s.Hosts {
				if h := &s.Hosts[i]; h.Name == group.Host && group.Host != "" {
					h.NodeID, n.HostID, n.Inventory = n.ID, h.ID, h.Inventory
				}
			}
			n.Held = group.State == broker.NodeHeld
			for i := range s.Sessions {
				if s.Sessions[i].ID == group.Session {
					s.Sessions[i].Nodes = append(s.Sessions[i].Nodes, n.ID)
				}
			}
			s.Nodes = append(s.Nodes, n)
		}
	}
	for pool, t := range w.Observed {
		s.Observed[pool] = broker.Timings{Create: duration(t.Create), Check: duration(t.Check), Destroy: duration(t.Destroy)}
	}
	against := plan.Against{Kind: "data_dir", Name: "data"}
	if w.Running {
		against = plan.Against{Kind: "server", Name: "http://127.0.0.1:8080/api/v1"}
	}
	world := plan.World(s, w.Running)
	c.declare(&after, world)
	return plan.Compute(planStart, before, after, world, plan.Options{Against: against, MaskKey: []byte("key"), Observed: plan.Durations(s), Tenants: w.Tenants})
}

func (c planCase) declare(after *plan.Config, w reconcile.World) {
	c.t.Helper()
	if err := after.Declare(planStart, w, after.Inventories); err != nil {
		c.t.Fatal(err)
	}
}

// TestPlanCorpus compares what plan prints for each change of testdata/plan, in
// all formats. Make the files with: go test ./cmd/duffy-broker -run TestPlanCorpus -update
func TestPlanCorpus(t *testing.T) {
	dirs, err := filepath.Glob("testdata/plan/[0-9]*")
	if err != nil || len(dirs) < 25 {
		t.Fatalf("%d changes, %v; want 25 at least", len(dirs), err)
	}
	ids := make(map[string]string)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			p := planCase{t, dir}.compute()
			for format, file := range map[string]string{view.Text: "expected.txt", view.JSON: "expected.json", view.Markdown: "expected.md"} {
				var got bytes.Buffer
				if err := view.Plan(&got, p, view.PlanOptions{Format: format, MaxSize: 65_000}); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(got.String(), "very-secret") {
					t.Errorf("%s shows the value of a sensitive variable", format)
				}
				compareGolden(t, filepath.Join(dir, file), got.String())
			}
			ids[filepath.Base(dir)] = p.ID
		})
	}
	// One may plan without a broker, and confirm the plan to it.
	if ids["15-pool-removed"] != ids["16-pool-removed-with-sessions"] {
		t.Error("the same change has another id with another stock")
	}
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make it with -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
