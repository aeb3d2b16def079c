package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// slowPool makes nodes that wait for a file, and print a secret of the
// environment; those of a second generation always fail.
func slowPool(t *testing.T, wait, fail string) string {
	t.Helper()
	dir := t.TempDir()
	module := fmt.Sprintf(`
variable "broker" { type = any }
resource "terraform_data" "node" {
  input = "127.0.0.1"
  provisioner "local-exec" {
    command = "echo the token is $DUFFY_TEST_TOKEN; until [ -e %s ]; do sleep 0.1; done; echo done waiting; %s"
  }
}
output "ipaddr" { value = terraform_data.node.output }
`, wait, fail)
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
pool "slow" {
  module        = %q
  fill_level    = 1
  max_nodes     = 1
  contextualize = "none"
}
`, dir)
}

// The log of a node can be followed while it is made, and read when it has gone.
// Only admins see it, and no secret in it.
func TestNodeLogs(t *testing.T) {
	const token = "token-of-the-environment"
	t.Setenv("DUFFY_TEST_TOKEN", token)
	wait := filepath.Join(t.TempDir(), "go")
	s := newServer(t, slowPool(t, wait, "true"))
	s.start()
	var id int64
	s.eventually("a node is being made", time.Minute, func() error {
		nodes := s.must(200, "admin", "GET", "/nodes", nil).Nodes
		if len(nodes) == 0 {
			return errors.New("none")
		}
		id = nodes[0].ID
		return nil
	})
	follow := s.command(t.Context(), "node", "logs", "-f", fmt.Sprint(id))
	out := new(lineBuffer)
	follow.Stdout, follow.Stderr = out, out
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	s.eventually("the log shows what the run prints", time.Minute, func() error {
		if !strings.Contains(out.String(), "(local-exec): the token is") {
			return errors.New(out.String())
		}
		return nil
	})
	if strings.Contains(out.String(), "(local-exec): done waiting") {
		t.Error("the run has not waited: nothing is followed")
	}
	if err := os.WriteFile(wait, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := follow.Wait(); err != nil { // ends by itself: the node is ready
		t.Errorf("%v: %s", err, out)
	}
	for _, want := range []string{"== terraform apply\n", "(local-exec): done waiting", "Creation complete", "== terraform apply succeeded"} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("%q is not in it once:\n%s", want, out)
		}
	}
	if strings.Contains(out.String(), token) {
		t.Errorf("the followed log shows a secret:\n%s", out)
	}

	s.writePools(plainPool(t, 0)) // the pool goes, and the node with it
	s.reload()
	s.eventually("the node is gone", time.Minute, func() error {
		for _, n := range s.must(200, "admin", "GET", "/nodes", nil).Nodes {
			if n.ID == id {
				return errors.New(n.State)
			}
		}
		return nil
	})
	text := s.admin("node", "logs", fmt.Sprint(id))
	for _, want := range []string{"== terraform apply (run 1)", "the token is **********", "== terraform destroy (run 2)", "Destruction complete", "== terraform destroy succeeded"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q is not in it once:\n%s", want, text)
		}
	}
	if one := s.admin("node", "logs", "--run", "2", "--json", fmt.Sprint(id)); strings.Contains(one, `"run":1`) || !strings.Contains(one, `"type":"run_end"`) {
		t.Errorf("run 2 alone: %s", one)
	}
	if status, _, err := s.call("demo", "GET", fmt.Sprintf("/nodes/%d/logs", id), nil); err != nil || status != 403 {
		t.Errorf("a tenant gets %d, %v", status, err)
	}
	if status, _, err := s.call("admin", "GET", "/nodes/99/logs", nil); err != nil || status != 404 {
		t.Errorf("an unknown node: %d, %v", status, err)
	}
	s.stop()
	s.nowhere(token)
}

// Whoever follows a log does not hold up the end of the broker, and is told of it.
func TestNodeLogsEndWithTheBroker(t *testing.T) {
	wait := filepath.Join(t.TempDir(), "go")
	s := newServer(t, slowPool(t, wait, "true"))
	s.start()
	var id int64
	s.eventually("a node is being made", time.Minute, func() error {
		nodes := s.must(200, "admin", "GET", "/nodes", nil).Nodes
		if len(nodes) == 0 {
			return errors.New("none")
		}
		id = nodes[0].ID
		return nil
	})
	follow := s.command(t.Context(), "node", "logs", "-f", fmt.Sprint(id))
	out := new(lineBuffer)
	follow.Stdout, follow.Stderr = out, out
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	s.eventually("the log is followed", time.Minute, func() error {
		if !strings.Contains(out.String(), "Provisioning with") {
			return errors.New(out.String())
		}
		return nil
	})
	s.stop()
	if err := follow.Wait(); err == nil || !strings.Contains(out.String(), "the broker is stopping") {
		t.Errorf("the follower ends with %v: %s", err, out)
	}
	if strings.Contains(s.log.String(), "requests cut short") {
		t.Error("the broker has waited for the follower")
	}
	s.start() // and adopts the run
	if err := os.WriteFile(wait, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.full(time.Minute)
	s.stop()
}
