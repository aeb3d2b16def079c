package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// fakeOutputs answers lookups.
type fakeOutputs struct {
	values map[string]string
	err    error
	during func() // a lookup
}

func (f *fakeOutputs) FollowBase(p broker.Pool) (string, error) { return p.Source.Template, nil }

func (f *fakeOutputs) LookUp(context.Context, broker.Pool) (map[string]string, error) {
	if f.during != nil {
		f.during()
	}
	return f.values, f.err
}

func (f *fakeOutputs) FollowedSource(p broker.Pool) (broker.Source, error) {
	p.Source.Generation = p.GenerationOver(p.Source.Template)
	return p.Source, nil
}

func TestFollower(t *testing.T) {
	const base = "0123456789abcdef01234567"
	pool := broker.Pool{
		Name: "p", Follow: broker.Follow{Outputs: []string{"image"}, Every: time.Hour},
		Source: broker.Source{Template: base, Generation: base},
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	outputs := &fakeOutputs{values: map[string]string{"image": `"a"`}}
	var pools broker.PoolSet
	pools.Set([]broker.Pool{{Name: "other"}, pool}, broker.Account{Name: "cloud"})
	var stored broker.Followed
	var problems []string
	noted := func(_ context.Context, old, next broker.Followed) error {
		if diff := cmp.Diff(stored.Values, old.Values); diff != "" {
			t.Errorf("noted after another record:\n%s", diff)
		}
		stored = next
		return nil
	}
	changed := 0
	newFollower := func() *follower {
		return &follower{
			pools: &pools, reader: outputs, reading: new(sync.Mutex), change: func(fn func() error) error { return fn() },
			note: noted, problem: func(_ context.Context, pool, problem string) error {
				problems = append(problems, pool+": "+problem)
				return nil
			},
			changed: func(context.Context) { changed++ }, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now },
		}
	}
	f := newFollower()
	look := func(wait time.Duration) string { // gives the generation after the lookup that is due after wait
		t.Helper()
		p, own, due, ok := f.next()
		if !ok || p.Name != "p" || own != base {
			t.Fatalf("next: %v, pool %q, base %s", ok, p.Name, own)
		}
		if due.IsZero() {
			due = now
		}
		if got := due.Sub(now); got != wait {
			t.Errorf("the lookup is due in %v, want %v", got, wait)
		}
		now = due
		f.lookUp(t.Context(), p, own)
		after, _ := pools.Get("p")
		return after.Source.Generation
	}
	if got := look(0); got != base {
		t.Errorf("the first values make generation %s", got)
	}
	if got := look(time.Hour); got != base {
		t.Errorf("the same values make generation %s", got)
	}
	outputs.values = map[string]string{"image": `"b"`}
	newer := look(time.Hour)
	if newer == base || stored.Values["image"] != `"b"` || changed != 3 {
		t.Errorf("after a change: generation %s, stored %v, changed %d", newer, stored.Values, changed)
	}
	if _, accounts := pools.File(); len(accounts) != 1 || len(pools.All()) != 2 {
		t.Errorf("the rest of the file is gone: %v, %v", pools.All(), accounts)
	}

	// Errors change nothing, and are told once.
	outputs.err = errors.New("the cloud is away")
	for _, wait := range []time.Duration{time.Hour, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour} {
		if got := look(wait); got != newer || stored.Values["image"] != `"b"` {
			t.Errorf("after an error: generation %s, stored %v", got, stored.Values)
		}
	}
	if diff := cmp.Diff([]string{"p: the cloud is away"}, problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	f = newFollower() // a restart looks at once, since it is long due
	outputs.err = nil
	now = now.Add(time.Hour)
	p, own, _, _ := f.next()
	f.lookUp(t.Context(), p, own)
	if got := look(time.Hour); got != newer {
		t.Errorf("after a restart: generation %s", got)
	}

	// A reload during the lookup wins.
	outputs.values = map[string]string{"image": `"c"`}
	changed = 0
	for name, other := range map[string]func(*broker.Pool){
		"another module":         func(p *broker.Pool) { p.Source.Template, p.Source.Generation = "x", "x" },
		"another output":         func(p *broker.Pool) { p.Follow.Outputs = []string{"else"} },
		"a pool of another name": func(p *broker.Pool) { p.Name = "q" },
	} {
		before, _ := pools.Get("p")
		after := before
		other(&after)
		outputs.during = func() { pools.Set([]broker.Pool{after}) }
		f.lookUp(t.Context(), before, base)
		if diff := cmp.Diff([]broker.Pool{after}, pools.All()); diff != "" || changed != 0 || stored.Values["image"] != `"b"` {
			t.Errorf("%s, during a lookup (-want +got):\n%s", name, diff)
		}
		pools.Set([]broker.Pool{before})
	}
}

// Each variant is looked up with its own variables, and has values of its own.
func TestFollowerOfVariants(t *testing.T) {
	source := func(base string) broker.Source { return broker.Source{Template: base, Generation: base} }
	pool := broker.Pool{
		Name: "p", Follow: broker.Follow{Outputs: []string{"image"}, Every: time.Hour}, Source: source("b1"),
		Variants: []broker.Variant{{Name: "near", Source: source("b1")}, {Name: "far", Source: source("b2")}},
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	outputs := new(fakeOutputs)
	var pools broker.PoolSet
	pools.Set([]broker.Pool{pool})
	var stored broker.Followed
	var problems []string
	f := &follower{
		pools: &pools, reader: outputs, reading: new(sync.Mutex), change: func(fn func() error) error { return fn() },
		note: func(_ context.Context, _, next broker.Followed) error {
			stored = next
			return nil
		},
		problem: func(_ context.Context, pool, problem string) error {
			problems = append(problems, pool+": "+problem)
			return nil
		},
		changed: func(context.Context) {}, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now },
	}
	look := func(variant, value string, wait time.Duration) []string { // gives the generations of the variants then
		t.Helper()
		p, own, due, _ := f.next()
		if due.IsZero() {
			due = now
		}
		if p.Variants[0].Name != variant || due.Sub(now) != wait {
			t.Fatalf("next is variant %s in %v, want %s in %v", p.Variants[0].Name, due.Sub(now), variant, wait)
		}
		now = due
		outputs.values, outputs.err = map[string]string{"image": value}, nil
		if value == "" {
			outputs.err = errors.New("the cloud is away")
		}
		f.lookUp(t.Context(), p, own)
		after, _ := pools.Get("p")
		return []string{after.Variants[0].Source.Generation, after.Variants[1].Source.Generation}
	}
	look("near", `"a"`, 0)
	if got := look("far", `"x"`, 0); !slices.Equal(got, []string{"b1", "b2"}) {
		t.Errorf("the first values make generations %v", got)
	}
	if got := look("near", `"a"`, time.Hour); !slices.Equal(got, []string{"b1", "b2"}) {
		t.Errorf("the same value makes generations %v", got)
	}
	got := look("far", `"y"`, 0)
	if got[0] != "b1" || got[1] == "b2" {
		t.Errorf("another value of the second variant makes generations %v", got)
	}
	after, _ := pools.Get("p")
	if diff := cmp.Diff(stored, after.Followed); diff != "" || after.Source.Generation != "b1" || len(after.Variants) != 2 {
		t.Errorf("the pool is %+v; stored and known differ:\n%s", after, diff)
	}
	// A failure of one leaves the other one alone.
	look("near", "", time.Hour)
	look("far", `"y"`, 0)
	if kept := look("near", `"a"`, time.Minute); !slices.Equal(kept, got) {
		t.Errorf("after a failure the generations are %v, want %v", kept, got)
	}
	if diff := cmp.Diff([]string{"p: variant near: the cloud is away"}, problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// A new value rolls the stock once. A restart, and a lookup that fails, leave it alone.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	module := filepath.Join(dir, "module")
	if err := os.Mkdir(module, 0o700); err != nil {
		t.Fatal(err)
	}
	write(image, "image-1\n")
	write(filepath.Join(module, "main.tf"), plainModule+fmt.Sprintf("output \"image_id\" { value = trimspace(file(%q)) }\n", image))
	pools := fmt.Sprintf("pool \"plain\" {\n  module = %q\n  contextualize = \"none\"\n  fill_level = 2\n  max_nodes = 4\n  follow {\n    outputs = [\"image_id\"]\n    every = \"1m\"\n  }\n}\n", module)
	s := newServer(t, pools)
	s.start()
	s.full(time.Minute)
	s.logs("outputs that a pool follows are known")
	first := s.knownNodes()
	var generation string
	same := func(what string, want map[string]apiNode) {
		t.Helper()
		s.full(time.Minute)
		r := s.rollout("plain")
		if generation == "" {
			generation = r.Generation
		}
		if r.Generation != generation || r.Left != 0 {
			t.Errorf("%s, and of generation %s it is %s, with %d stale nodes", what, generation, r.Generation, r.Left)
		}
		got := s.knownNodes()
		for name := range want {
			if _, there := got[name]; !there {
				t.Errorf("%s, and node %s has gone", what, name)
			}
		}
		if p, code, errOut := s.plan("--pools", s.pools, "--server"); code != 0 || p.Summary.Changes() {
			t.Errorf("%s, and plan sees changes: exit %d, %+v\n%s", what, code, p.Pools, errOut)
		}
	}
	same("the first value came", first)

	write(image, "image-2\n")
	s.eventually("the new value is seen", 3*time.Minute, func() error {
		if !strings.Contains(s.log.String(), "outputs that a pool follows have changed") {
			return errors.New("no such line in the log")
		}
		return nil
	})
	s.eventually("the stock is another", 2*time.Minute, func() error {
		for name := range s.knownNodes() {
			if _, old := first[name]; old {
				return fmt.Errorf("node %s is there", name)
			}
		}
		return nil
	})
	s.full(time.Minute)
	second := s.knownNodes()
	if now := s.rollout("plain").Generation; now == generation {
		t.Errorf("the generation is %s as before", now)
	}
	generation = ""
	for _, n := range second {
		if n.ID > 4 {
			t.Errorf("node %d: more than the 2 nodes of the stock were replaced", n.ID)
		}
	}
	told := 0
	for _, e := range s.events(0) {
		if e.Kind == "pool" {
			told++
			if e.From != `image_id="image-1"` || e.To != `image_id="image-2"` {
				t.Errorf("event: %+v", e)
			}
		}
	}
	if told != 1 {
		t.Errorf("%d events of it, want 1", told)
	}
	same("the stock was rolled", second)
	if out, err := s.command(t.Context(), "reload", "--wait").CombinedOutput(); err != nil {
		t.Errorf("reload: %v\n%s", err, out)
	}
	same("the pools were reloaded", second)

	// Without what it comes from.
	s.stop()
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	if p, code, errOut := s.plan("--pools", s.pools, "--data-dir", s.data); code != 0 || p.Summary.Changes() {
		t.Errorf("plan of the data directory: exit %d, %+v\n%s", code, p.Pools, errOut)
	}
	s.start()
	s.eventually("a lookup fails", 3*time.Minute, func() error {
		if !strings.Contains(s.log.String(), "can't be looked up") {
			return errors.New("no such line in the log")
		}
		return nil
	})
	same("a lookup has failed", second)
	told = 0
	for _, e := range s.events(0) {
		if e.Kind == "pool" && strings.Contains(e.Message, "can't be looked up") && strings.Contains(e.Message, "no file exists") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d events of a lookup that failed, want 1", told)
	}
	s.stop()
}

// rollout says how far the rollout of a pool is.
func (s *server) rollout(pool string) (r v1.Rollout) {
	s.t.Helper()
	out, err := s.command(s.t.Context(), "rollout", "status", "--format", "json").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	var answer v1.RolloutsAnswer
	if err := json.Unmarshal(out, &answer); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	for _, r = range answer.Rollouts {
		if r.Pool == pool {
			return r
		}
	}
	s.t.Fatalf("no pool %s in %s", pool, out)
	return r
}
