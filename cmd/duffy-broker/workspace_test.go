package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// node runs a node command and gives what it printed.
func (s *server) node(args ...string) (string, error) {
	cmd := s.command(context.Background(), append([]string{"node"}, args...)...)
	cmd.Dir = filepath.Dir(s.data)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("node %v: %w\n%s", args, err, errOut.String())
	}
	return string(out), err
}

func (s *server) mustNode(args ...string) string {
	s.t.Helper()
	out, err := s.node(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// show reads a node as the admin.
func (s *server) show(id int64) v1.Node {
	s.t.Helper()
	var a v1.NodeAnswer
	if err := json.Unmarshal([]byte(s.mustNode("show", "--format", "json", fmt.Sprint(id))), &a); err != nil {
		s.t.Fatal(err)
	}
	return a.Node
}

func (s *server) reaches(id int64, condition string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("node %d is %s", id, condition), time.Minute, func() error {
		if n := s.show(id); n.Condition != condition {
			return fmt.Errorf("it is %s: %s", n.Condition, n.Failure)
		}
		return nil
	})
}

// byHand runs what a person would in the workspace.
func (s *server) byHand(dir, program string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = filepath.Join(filepath.Dir(s.data), dir)
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "DUFFY_BROKER="+binary)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// A node that can't be destroyed is taken in hand: plain Terraform works in the
// link, with providers of the module's own, and after that the broker goes on.
func TestWorkspaceOfAFailingDestroy(t *testing.T) {
	terraform := brokertest.NeedProgram(t, "terraform")
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	cloud := fakecloud.Start(t, fakecloud.Config{})
	module, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/module")
	if err != nil {
		t.Fatal(err)
	}
	pools := func(fill int) string {
		return fmt.Sprintf(`
pool "cloud" {
  module        = %q
  fill_level    = %d
  max_nodes     = 2
  contextualize = "none"
  variables     = { endpoint = %q }
}
`, module, fill, cloud.URL())
	}
	s := newServer(t, pools(1))
	s.start()
	s.full(time.Minute)
	id := s.must(200, "admin", "GET", "/nodes", nil).Nodes[0].ID
	cloud.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Class: fakecloud.DependencyViolation}}})
	s.writePools(pools(0))
	s.reload()
	s.eventually("its destroy has failed", time.Minute, func() error {
		if n := s.show(id); n.Attempts == 0 {
			return errors.New(n.Condition)
		}
		return nil
	})

	out := s.mustNode("workspace", fmt.Sprint(id), "by hand", "--reason", "still in use")
	for _, want := range []string{"node " + fmt.Sprint(id) + " is held", "cd 'by hand'", "export DUFFY_BROKER=" + binary, terraform + " plan", "node workspace --return"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	n := s.show(id)
	if n.Condition != "held" || n.State != "deployed" || n.Hold.From != "destroying" || n.Hold.By != "admin" || n.Hold.Reason != "still in use" {
		t.Errorf("the node is %+v, held %+v", n, n.Hold)
	}
	if table := s.mustNode("list"); !strings.Contains(table, "held") {
		t.Errorf("the list is\n%s", table)
	}
	if again := s.mustNode("workspace", fmt.Sprint(id), "by hand"); again != out {
		t.Errorf("asked again, it says\n%s", again)
	}
	// The broker may come and go.
	deletes := cloud.Calls(fakecloud.Delete)
	s.stop()
	s.start()
	if list := s.byHand("by hand", terraform, "state", "list"); list != "fakecloud_instance.node\n" {
		t.Errorf("the state has %q", list)
	}
	if plan := s.byHand("by hand", terraform, "plan", "-no-color"); strings.Contains(plan, "to add") || !strings.Contains(plan, "i-00000001") {
		t.Errorf("the plan is\n%s", plan)
	}
	template := s.template()
	s.byHand("by hand", terraform, "init", "-upgrade")
	if after := s.template(); after != template {
		t.Errorf("the kept module has changed:\n%s\n%s", template, after)
	}
	if got := cloud.Calls(fakecloud.Delete); got != deletes {
		t.Errorf("%d deletes of a node that is held", got-deletes)
	}

	// A state that is damaged is refused, and nothing is lost.
	state := filepath.Join(filepath.Dir(s.data), "by hand", "terraform.tfstate")
	good, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.node("workspace", "--return", fmt.Sprint(id), "by hand"); err == nil || !strings.Contains(err.Error(), "the state file is empty") || !strings.Contains(err.Error(), "--discard") {
		t.Errorf("an empty state gives %q, %v", out, err)
	}
	if out, err := s.node("release", fmt.Sprint(id)); err == nil || !strings.Contains(err.Error(), "has a workspace") {
		t.Errorf("released with a workspace: %q, %v", out, err)
	}
	if err := os.WriteFile(state, good, 0o600); err != nil {
		t.Fatal(err)
	}

	cloud.SetFaults(fakecloud.Faults{})
	s.byHand("by hand", terraform, "destroy", "-auto-approve")
	if left := cloud.Instances(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	if out := s.mustNode("workspace", "--return", fmt.Sprint(id), "by hand"); !strings.Contains(out, "destroy") {
		t.Errorf("it says %s", out)
	}
	s.reaches(id, "gone")
	for _, path := range []string{filepath.Join(filepath.Dir(s.data), "by hand"), filepath.Join(s.data, "workspaces", n.UID)} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	s.stop()
}

// template lists the kept modules of the broker.
func (s *server) template() string {
	s.t.Helper()
	out, err := exec.Command("find", filepath.Join(s.data, "templates"), "-printf", "%P %y %s %T@\n").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

// A node of the stock is looked at, and returns to it.
func TestWorkspaceOfAReadyNode(t *testing.T) {
	t.Parallel()
	pools := strings.Replace(localPools(t), "fill_level = 2", "fill_level = 0", 1)
	s := newServer(t, strings.Replace(pools, "fill_level = 3", "fill_level = 1", 1))
	s.start()
	s.full(time.Minute)
	id := s.must(200, "admin", "GET", "/nodes", nil).Nodes[0].ID
	if out, err := s.node("workspace", fmt.Sprint(id), "data"); err == nil || !strings.Contains(err.Error(), "data is there, and is not the link") {
		t.Errorf("in the way of a directory: %q, %v", out, err)
	}
	s.mustNode("workspace", fmt.Sprint(id), "ready-node")
	s.reaches(id, "held")
	if plan := s.byHand("ready-node", "terraform", "plan", "-no-color"); !strings.Contains(plan, "No changes") {
		t.Errorf("the plan is\n%s", plan)
	}
	s.full(time.Minute) // another one took its place
	if session := s.must(201, "demo", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "small", "quantity": 1}}}).Session; session.Nodes[0].ID == id {
		t.Error("the held node was lent")
	}
	if status, answer, err := s.call("demo", "POST", fmt.Sprintf("/nodes/%d/workspace", id), nil); status != 403 || err != nil {
		t.Errorf("a tenant gets %d, %+v, %v", status, answer, err)
	}
	// Its link may have gone.
	if err := os.Remove(filepath.Join(filepath.Dir(s.data), "ready-node")); err != nil {
		t.Fatal(err)
	}
	if out := s.mustNode("workspace", "--return", fmt.Sprint(id)); !strings.Contains(out, "returns to stock") {
		t.Errorf("it says %s", out)
	}
	s.eventually("the pool is full again", time.Minute, func() error {
		if n := s.show(id); n.Condition != "ready" && n.Condition != "gone" { // one of two is too many
			return errors.New(n.Condition)
		}
		return nil
	})
	if !strings.Contains(s.nodeEvents(id), `"state":"ready"`) {
		t.Error("it never became ready")
	}

	// Hold and release by themselves.
	s.full(time.Minute)
	for _, n := range s.must(200, "admin", "GET", "/nodes", nil).Nodes {
		if n.State == "ready" {
			id = n.ID
		}
	}
	if out := s.mustNode("hold", fmt.Sprint(id), "--reason", "why"); !strings.Contains(out, "held") {
		t.Errorf("it says %s", out)
	}
	if out := s.mustNode("release", fmt.Sprint(id)); !strings.Contains(out, "checking") {
		t.Errorf("it says %s", out)
	}
	s.full(time.Minute)
	s.noStrays()
	s.stop()
}

// On another machine than the broker's there is nothing to link to, and a refusal
// is printed in the format that a script asked for.
func TestWorkspaceElsewhere(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	here := t.TempDir()
	answers := []struct {
		status int
		body   string
	}{
		{201, `{"action": "post", "node": {"id": 12, "condition": "held"}, "directory": "/nowhere/workspaces/u"}`},
		{409, `{"detail": "node 12 is lent, in session 3", "code": "conflict", "hint": "retire that session first"}`},
	}
	asked := 0
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(answers[asked].status)
		_, _ = io.WriteString(w, answers[asked].body)
		asked++
	}))
	defer broker.Close()
	command := func(args ...string) (int, string, string) {
		var out, errOut strings.Builder
		code := run(t.Context(), append([]string{"node", "workspace", "--url", broker.URL, "12", filepath.Join(here, "link")}, args...), nil, &out, &errOut)
		return code, out.String(), errOut.String()
	}
	code, out, errOut := command()
	for _, want := range []string{"node 12 is held", "/nowhere/workspaces/u is not to be seen from here", "on the broker's machine, as the broker's user", "--return 12"} {
		if code != 1 || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("exit %d, %q, and it does not say %q: %s", code, out, want, errOut)
		}
	}
	if code, out, errOut := command("--format", "flat"); code != 1 || out != "error='node 12 is lent, in session 3'\n" || !strings.Contains(errOut, "retire that session first") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
	if left, err := os.ReadDir(here); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
