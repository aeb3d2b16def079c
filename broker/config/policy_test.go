package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestPolicy(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "m"), 0o700); err != nil {
		t.Fatal(err)
	}
	load := func(text string) *File {
		t.Helper()
		path := filepath.Join(dir, "pools.hcl")
		for name, text := range map[string]string{path: text, filepath.Join(dir, "m", "main.tf"): ""} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, diags := Load(path)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return f
	}
	pool := func(name, instance string, most int) *broker.Pool {
		vars, err := json.Marshal(map[string]string{"instance_type": instance})
		if err != nil {
			t.Fatal(err)
		}
		return &broker.Pool{Name: name, MaxNodes: most, FillLevel: 1, Variables: vars}
	}
	const rules = `
locals { allowed = ["t3.small", "t3.large"] }
policy {
  deny "too-large" {
    condition = new != null && new.max_nodes > 100
    message   = "pool ${new.name} may have ${new.max_nodes} nodes: 100 are the most"
  }
  deny "instance-type" {
    condition = new != null && !contains(local.allowed, new.variables.instance_type)
  }
  deny "in-use" {
    condition = new == null && stock.lent > 0
    message   = "pool ${old.name} has ${stock.lent} lent nodes"
  }
  warn "grows" {
    condition = old != null && new != null && new.max_nodes > 2 * old.max_nodes
  }
  warn "all-together" {
    condition = length(pools.new) > 0 && sum([for p in pools.new : p.max_nodes]) > 150
    message   = "more than 150 nodes in all"
  }
}
pool "a" { module = "./m" }
`
	f := load(rules)
	bare := pool("bare", "", 1)
	bare.Variables = json.RawMessage(`{}`)
	for name, test := range map[string]struct {
		change PoolChange
		want   []Objection
	}{
		"nothing":    {PoolChange{pool("a", "t3.small", 5), pool("a", "t3.small", 6), Stock{}}, nil},
		"too-large":  {PoolChange{nil, pool("a", "t3.small", 101), Stock{}}, []Objection{{"too-large", "a", true, "pool a may have 101 nodes: 100 are the most"}}},
		"a type":     {PoolChange{nil, pool("a", "p5.large", 5), Stock{}}, []Objection{{"instance-type", "a", true, "instance-type"}}},
		"in-use":     {PoolChange{pool("a", "t3.small", 5), nil, Stock{Lent: 2, Total: 3}}, []Objection{{"in-use", "a", true, "pool a has 2 lent nodes"}}},
		"not in use": {PoolChange{pool("a", "t3.small", 5), nil, Stock{Ready: 2}}, nil},
		"grows":      {PoolChange{pool("a", "t3.small", 5), pool("a", "t3.small", 11), Stock{}}, []Objection{{"grows", "a", false, "grows"}}},
		"can't be told": {PoolChange{nil, bare, Stock{}}, []Objection{{
			"instance-type", "bare", true,
			"its condition can't be evaluated: Unsupported attribute; This object does not have an attribute named \"instance_type\".",
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			var now []broker.Pool
			if test.change.New != nil {
				now = append(now, *test.change.New)
			}
			if diff := cmp.Diff(test.want, f.CheckPolicy([]PoolChange{test.change}, nil, now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	got := f.CheckPolicy(nil, nil, []broker.Pool{*pool("a", "t3.small", 99), *pool("b", "t3.small", 99)})
	if diff := cmp.Diff([]Objection{{"all-together", "", false, "more than 150 nodes in all"}}, got); diff != "" {
		t.Errorf("of the whole file (-want +got):\n%s", diff)
	}
	if got := load("pool \"a\" { module = \"./m\" }\n").CheckPolicy([]PoolChange{{nil, pool("a", "x", 999), Stock{}}}, nil, nil); got != nil {
		t.Errorf("without a policy: %v", got)
	}
}
