package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A reload that would replace all of the stock waits for its plan to be confirmed,
// whoever asks; a plan that no longer matches is refused.
func TestConfirm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	module := strings.Replace(plainModule, "\n", "\nvariable \"password\" {\n  type = string\n  sensitive = true\n}\n", 1)
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	pools := func(fill int, password, more string) string {
		return fmt.Sprintf("pool \"plain\" {\n  module = %q\n  contextualize = \"none\"\n  fill_level = %d\n  max_nodes = 20\n  concurrency = 8\n  variables = { password = %q }\n  rollout {\n    max_surge = 8\n  }\n}\n%s",
			dir, fill, password, more)
	}
	const some = "reload {\n  confirm_above = 0.5\n  confirm_from = 3\n}\n"
	s := newServer(t, pools(4, "first secret", some))
	s.start()
	s.full(2 * time.Minute)
	before := s.knownNodes()
	run := func(code int, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := s.command(ctx, args...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("%v: exit %d, want %d\n%s", args, got, code, out)
		}
		return string(out)
	}
	planned := func() string {
		t.Helper()
		out := run(3, "plan", "--server", "--pools", s.pools, "--format", "json")
		var p struct{ ID string }
		if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &p); err != nil || p.ID == "" {
			t.Fatalf("%v: %s", err, out)
		}
		return p.ID
	}

	// The new file can't allow itself more.
	s.writePools(pools(4, "second secret", ""))
	id := planned()
	if out := run(1, "reload"); !strings.Contains(out, "would destroy 4 of 4 nodes") || !strings.Contains(out, "reload --confirm "+id) {
		t.Errorf("unconfirmed: %s, want plan %s", out, id)
	}
	s.reload()
	s.logs("would destroy 4 of 4 nodes")
	s.writePools(pools(3, "second secret", ""))
	if out := run(1, "reload", "--confirm", id); !strings.Contains(out, "is not what would be done") {
		t.Errorf("with the plan of another change: %s", out)
	}
	if got := len(s.knownNodes()); got != len(before) {
		t.Errorf("%d nodes, want the %d as before", got, len(before))
	}
	s.writePools(pools(4, "second secret", ""))
	run(0, "reload", "--confirm", id, "--wait")
	s.full(time.Minute)
	for name := range s.knownNodes() {
		if _, old := before[name]; old {
			t.Errorf("node %s is still there", name)
		}
	}

	// Now ten nodes may go unconfirmed, and one from four is a quarter.
	s.writePools(pools(3, "second secret", some))
	run(0, "reload")
	s.full(time.Minute)
	s.stop()
}
