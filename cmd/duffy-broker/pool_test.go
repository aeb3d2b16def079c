package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A window that is open counts in a broker that runs, and `pool` says so.
func TestPool(t *testing.T) {
	t.Parallel()
	module := t.TempDir()
	if err := os.WriteFile(filepath.Join(module, "main.tf"), []byte(plainModule), 0o600); err != nil {
		t.Fatal(err)
	}
	opened := time.Now().UTC().Add(-5 * time.Minute)
	s := newServer(t, fmt.Sprintf(`
pool "plain" {
  module        = %q
  contextualize = "none"
  description   = "follows the day"
  fill_level    = 1
  max_nodes     = 2
  max_age       = "1d"
  schedule "now" {
    cron       = "%d %d * * *"
    duration   = "2h"
    fill_level = 3
    max_nodes  = 5
  }
}
`, module, opened.Minute(), opened.Hour()))
	s.start()
	s.full(time.Minute)
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := s.command(ctx, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	if out := run("pool", "list", "--format", "table"); !strings.Contains(out, "plain 3/3 0 0 0 5 now ok") {
		t.Errorf("pool list: %s", out)
	}
	out := run("pool", "show", "plain", "--format", "table")
	closes := opened.Truncate(time.Minute).Add(2 * time.Hour).Format("2006-01-02T15:04:05-07:00")
	for _, want := range []string{"fill level 3", "max nodes 5", "window now (else: 1 ready, 2 at most)", "ready 3", "max age 24h", "changes " + closes + " 1 ready, 2 at most"} {
		if !strings.Contains(out, want) {
			t.Errorf("pool show says nothing of %q: %s", want, out)
		}
	}
	if out := run("pool", "show", "plain", "--auth-name", "demo", "--format", "table"); strings.Contains(out, "max nodes") || !strings.Contains(out, "follows the day") {
		t.Errorf("pool show as a tenant: %s", out)
	}
}
