package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A pool that gets another name, at a reload and at a start, keeps its nodes: none
// is replaced for it, since they are not stale.
func TestMove(t *testing.T) {
	t.Parallel()
	text := plainPool(t, 3)
	s := newServer(t, text)
	s.start()
	s.full(2 * time.Minute)
	before := slices.Sorted(maps.Keys(s.knownNodes()))
	check := func(pool string) {
		t.Helper()
		s.full(time.Minute)
		known := s.knownNodes()
		if diff := cmp.Diff(before, slices.Sorted(maps.Keys(known))); diff != "" {
			t.Errorf("nodes (-before +as %s):\n%s", pool, diff)
		}
		for uid, n := range known {
			if n.Pool != pool || n.State != "ready" {
				t.Errorf("node %s is %s in pool %s, want it ready in %s", uid, n.State, n.Pool, pool)
			}
		}
	}

	// The policy sees the pool with its new name, not one that goes and one that comes.
	text += "\npolicy {\n  deny \"removal\" {\n    condition = new == null || old == null\n  }\n}\n"
	text = strings.Replace(text, `"plain"`, `"simple"`, 1) + "\nmoved {\n  from = \"plain\"\n  to   = \"simple\"\n}\n"
	s.writePools(text)
	s.reload()
	s.logs("pools reloaded")
	check("simple")
	s.stop()

	s.writePools(strings.Replace(text, `pool "simple"`, `pool "basic"`, 1) + "\nmoved {\n  from = \"simple\"\n  to   = \"basic\"\n}\n")
	s.start()
	check("basic")
	s.stop()
}
