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

// A change of a module rolls its stock; one that can't be made pauses, and
// `reload --wait` says so.
func TestRollout(t *testing.T) {
	t.Parallel()
	module := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(module, "main.tf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(plainModule)
	s := newServer(t, fmt.Sprintf("pool \"plain\" {\n  module = %q\n  contextualize = \"none\"\n  fill_level = 3\n  max_nodes = 6\n}\n", module))
	s.start()
	s.full(time.Minute)
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
	if out := run(0, "reload", "--wait"); strings.Contains(out, "replaced") {
		t.Errorf("a reload without a change: %s", out)
	}

	write(plainModule + `output "data" { value = { release = 2 } }` + "\n")
	if out := run(0, "reload", "--wait"); !strings.Contains(out, "pool plain: 3 of 3 stale nodes replaced") {
		t.Errorf("a reload with a change: %s", out)
	}
	s.full(time.Minute)
	for name := range s.knownNodes() {
		if _, old := before[name]; old {
			t.Errorf("node %s is still there", name)
		}
	}

	good := s.knownNodes()
	write(strings.Replace(plainModule, `input = "127.0.0.1"`, `input = tostring(file("missing"))`, 1))
	if out := run(1, "reload", "--wait"); !strings.Contains(out, "the rollout of pool plain is paused") && !strings.Contains(out, "missing") {
		t.Errorf("a reload with a broken change: %s", out)
	}
	// Valid, and fails only when it runs.
	write(plainModule + `resource "terraform_data" "late" {
  provisioner "local-exec" { command = "false" }
}
`)
	if out := run(1, "reload", "--wait"); !strings.Contains(out, "the rollout of pool plain is paused") {
		t.Errorf("a reload with a broken change: %s", out)
	}
	if out := run(0, "rollout", "status"); !strings.Contains(out, "paused") {
		t.Errorf("status: %s", out)
	}
	for name := range good {
		if _, there := s.knownNodes()[name]; !there {
			t.Errorf("node %s has gone, and nothing better came", name)
		}
	}
	write(plainModule)
	run(0, "reload", "--wait")
	s.full(time.Minute)
	run(1, "rollout", "pause", "plain")
	s.stop()
}
