package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// What is wrong with all variants is told once, and what is wrong with some names
// them. Each is asked for with its own variables.
func TestSourcesOfVariants(t *testing.T) {
	p := broker.Pool{Name: "a", Variants: []broker.Variant{
		{Name: "x", Variables: json.RawMessage(`"x"`)}, {Name: "y", Variables: json.RawMessage(`"y"`)}, {Name: "z", Variables: json.RawMessage(`"z"`)},
	}}
	got, err := withSources(p, func(way broker.Pool) (broker.Source, error) {
		return broker.Source{Template: "t", Generation: string(way.Variables)}, nil
	})
	var generations []string
	for _, v := range got.Variants {
		generations = append(generations, v.Source.Generation)
	}
	if diff := cmp.Diff([]string{`"x"`, `"y"`, `"z"`}, generations); diff != "" || err != nil || got.Source.Generation != `"x"` {
		t.Errorf("%v, source %+v, generations (-want +got):\n%s", err, got.Source, diff)
	}
	if p.Variants[0].Source.Generation != "" {
		t.Error("the pool of the file was changed")
	}

	_, err = withSources(p, func(way broker.Pool) (broker.Source, error) {
		all := []terraform.Problem{{Code: broker.CodeInvalid, Detail: "no module", Hint: "make one"}}
		if way.Variants[0].Name != "x" {
			all = append(all, terraform.Problem{Code: broker.CodeInvalid, Detail: "no such zone", Hint: "take another"})
		}
		return broker.Source{}, &terraform.ModuleError{Pool: p.Name, Module: "m", Problems: all}
	})
	var texts []string
	for _, err := range joined(err) {
		mistaken, ok := errors.AsType[*terraform.ModuleError](err)
		if !ok {
			t.Fatalf("an error that is none of the module: %v", err)
		}
		for _, problem := range mistaken.Problems {
			texts = append(texts, problem.Variant+": "+problem.Detail+"; "+problem.Hint)
		}
	}
	if diff := cmp.Diff([]string{": no module; make one", "y: no such zone (variant y, z); take another"}, texts); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	_, err = withSources(p, func(broker.Pool) (broker.Source, error) { return broker.Source{}, context.Canceled })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A mistake in a variant is told at its place, and names it; what a variant adds to
// the pool is not missing.
func TestModuleMistakesOfVariants(t *testing.T) {
	dir := t.TempDir()
	module := `
variable "broker" { type = any }
variable "zone" { type = string }
variable "count_of_disks" { type = number }
output "ipaddr" { value = var.zone }
`
	pools := `
pool "a" {
  module    = "./m"
  variables = { count_of_disks = 1 }
  variant "near" {
    variables = { zone = "a" }
  }
  variant "far" {
    variables = { zone = "b", count_of_disks = "many" }
  }
  variant "farther" {
    variables = { region = "c" }
  }
}
`
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "m"), 0o700), os.WriteFile(filepath.Join(dir, "m", "main.tf"), []byte(module), 0o600),
		os.WriteFile(filepath.Join(dir, "pools.hcl"), []byte(pools), 0o600)); err != nil {
		t.Fatal(err)
	}
	file, diags := config.Load(filepath.Join(dir, "pools.hcl"))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var got []string
	for _, d := range checkModules(file) {
		if d.Severity == hcl.DiagError {
			_, variant, _ := strings.Cut(d.Detail, "(variant ")
			variant, _, _ = strings.Cut(variant, ")")
			got = append(got, fmt.Sprintf("%d %s: %s", d.Subject.Start.Line, d.Summary, variant))
		}
	}
	want := []string{"3 Missing variable: farther", "9 Wrong type: far", "12 Unknown variable: farther"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

// Story 15: a zone has no capacity, and another one has. Nodes come from that one,
// also after a restart, and the pool does not count it as failing. When neither has
// any, it waits and says so. When one has again, nodes come from it.
func TestStory15VariantWithoutCapacity(t *testing.T) {
	t.Parallel()
	module, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/module")
	if err != nil {
		t.Fatal(err)
	}
	out := func(class fakecloud.Class) fakecloud.Faults {
		return fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.Create, Class: class}}}
	}
	near, far := fakecloud.Start(t, fakecloud.Config{Faults: out(fakecloud.InsufficientCapacity)}), fakecloud.Start(t, fakecloud.Config{})
	s := newServer(t, fmt.Sprintf(`
pool "cloudy" {
  module        = %q
  fill_level    = 2
  max_nodes     = 6
  contextualize = "none"
  variables     = { size = "large" }

  variant "near" {
    variables = { endpoint = %q }
    cooldown  = "10s"
  }

  variant "far" {
    variables = { endpoint = %q }
    cooldown  = "15s"
  }
}
`, module, near.URL(), far.URL()))
	s.environment = []string{"TF_CLI_CONFIG_FILE=" + fakecloud.Mirror(t)}
	status := func() v1.PoolStatus {
		t.Helper()
		text, err := s.command(context.Background(), "pool", "show", "cloudy", "--format", "json").Output()
		var a v1.PoolStatusAnswer
		if err = errors.Join(err, json.Unmarshal(text, &a)); err != nil {
			t.Fatalf("pool show: %v\n%s", err, text)
		}
		if len(a.PoolStatus.Variants) != 2 {
			t.Fatalf("pool show tells of variants %+v", a.PoolStatus.Variants)
		}
		return a.PoolStatus
	}
	s.start()
	s.full(2 * time.Minute)
	if made, asked := len(far.Instances()), near.Calls(fakecloud.Create); made != 2 || asked != 2 || len(near.Instances()) != 0 {
		t.Errorf("%d instances in far, and %d creates in near; want 2 and 2", made, asked)
	}
	if i := far.Instances()[0]; i.Size != "large" {
		t.Errorf("a variant's instance has size %q: the pool's variables count, too", i.Size)
	}
	if p := status(); p.Failures != 0 || p.Variants[0].FailureClass != "no_capacity" || p.Variants[1].FailureClass != "" || p.Variants[1].Ready != 2 || p.Stale != 0 {
		t.Errorf("pool %+v, variants %+v", p.PoolOperator, p.Variants)
	}
	s.stop()
	s.start()
	if p := status(); p.Variants[0].FailureClass != "no_capacity" || !strings.Contains(p.Variants[0].Failure, "no host has room") || p.Stale != 0 {
		t.Errorf("after a restart: variants %+v", p.Variants)
	}

	far.SetFaults(out(fakecloud.QuotaExceeded))
	session := s.must(201, "admin", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "cloudy", "quantity": 1}}}).Session
	s.eventually("neither has capacity", time.Minute, func() error {
		p := status()
		if p.Failures == 0 || p.FailureClass == "" || p.NextTry.IsZero() {
			return fmt.Errorf("failures %d, class %q, next try %v, variants %+v", p.Failures, p.FailureClass, p.NextTry, p.Variants)
		}
		return nil
	})
	s.logs("pool rests: all of its variants cool down")

	near.SetFaults(fakecloud.Faults{})
	s.full(2 * time.Minute)
	if len(near.Instances()) != 1 || len(far.Instances()) != 2 {
		t.Errorf("%d instances in near and %d in far, want 1 and 2", len(near.Instances()), len(far.Instances()))
	}
	if p := status(); p.Failures != 0 || p.Variants[0].FailureClass != "" || p.Variants[0].Ready != 1 {
		t.Errorf("with capacity in near: pool %+v", p.PoolOperator)
	}
	text, err := s.command(context.Background(), "node", "show", fmt.Sprint(session.Nodes[0].ID), "--format", "json").Output()
	if err != nil || !strings.Contains(string(text), `"variant": "far"`) {
		t.Errorf("node show: %v\n%s", err, text)
	}

	// A session's end destroys with the variables that the node was made with.
	s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	s.eventually("the lent node has gone from far", time.Minute, func() error {
		if n := len(far.Instances()); n != 1 {
			return fmt.Errorf("%d instances", n)
		}
		return nil
	})
	s.stop()
}
