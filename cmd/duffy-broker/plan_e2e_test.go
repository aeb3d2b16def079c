package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// secretPool has a variable that nobody is to see, and one that begins with the
// directory of the file.
func secretPool(t *testing.T, image, license string) string {
	t.Helper()
	dir := t.TempDir()
	module := `
variable "broker" { type = any }
variable "image" { type = string }
variable "license" {
  type      = string
  sensitive = true
}
resource "terraform_data" "node" { input = "127.0.0.1" }
output "ipaddr" { value = terraform_data.node.output }
`
	if err := os.WriteFile(dir+"/main.tf", []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
legacy {
  map {
    pool = "plain"
  }
}

pool "plain" {
  module        = %q
  fill_level    = 3
  max_nodes     = 6
  contextualize = "none"
  variables     = { image = "${path.root}/%s", license = %q }
}
`, dir, image, license)
}

// plan runs the program, and gives the plan that it prints as JSON.
func (s *server) plan(args ...string) (p plan.Plan, code int, errOut string) {
	s.t.Helper()
	cmd := s.command(context.Background(), append([]string{"plan", "--format", "json"}, args...)...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	_ = cmd.Run() // the code tells
	code = cmd.ProcessState.ExitCode()
	if code != 1 {
		if err := json.Unmarshal(out.Bytes(), &p); err != nil {
			s.t.Fatalf("plan %v: %v\n%s%s", args, err, out.String(), stderr.String())
		}
	}
	return p, code, stderr.String()
}

// What plan says against a running broker is what that does after the file is its
// own: the same nodes, in the same order. And it knows how long that takes.
func TestPlanAgainstABroker(t *testing.T) {
	t.Parallel()
	pools := secretPool(t, "image.qcow2", "very-secret-license")
	s := newServer(t, pools)
	s.start()
	s.full(time.Minute)

	// The file of another checkout says the same.
	elsewhere := filepath.Join(t.TempDir(), "pools.hcl")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(elsewhere, pools)
	if p, code, errOut := s.plan("--pools", elsewhere, "--server"); code != 0 || p.Summary.Changes() {
		t.Errorf("nothing has changed, and plan exits with %d: %+v\n%s", code, p.Pools, errOut)
	}

	// Another license is a change, and neither is shown.
	write(elsewhere, strings.Replace(pools, "very-secret-license", "very-secret-other", 1))
	p, code, errOut := s.plan("--pools", elsewhere, "--server")
	if code != plan.ExitDanger || p.Summary.StockDestroyed != 3 || p.Pools[0].Generation == nil {
		t.Fatalf("exit code %d, want %d: %+v\n%s", code, plan.ExitDanger, p.Summary, errOut)
	}
	if diff := cmp.Diff([]plan.Input{{Kind: plan.InputVariable, Name: "license", How: "changed"}}, p.Pools[0].Generation.Inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	quotas := &plan.Quotas{Before: &plan.Allowance{Tenants: 1, Nodes: 10, MaxNodes: 6}, After: &plan.Allowance{Tenants: 1, Nodes: 10, MaxNodes: 6}}
	if diff := cmp.Diff(quotas, p.Pools[0].Quotas); diff != "" {
		t.Errorf("quotas (-want +got):\n%s", diff)
	}
	if p.Assumed.Observed["plain"].Create == 0 {
		t.Errorf("three creates were seen, and none is told: %+v", p.Assumed)
	}
	s.noSecrets("very-secret")

	// The announced actions come true, in their order.
	last := s.lastEvent()
	s.writePools(strings.Replace(pools, "very-secret-license", "very-secret-other", 1))
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.logs("pools reloaded")
	created := 0
	for _, a := range p.Actions {
		if a.Kind == reconcile.CreateNode {
			created++
		}
	}
	s.eventually("the rollout is over", time.Minute, func() error {
		if made := strings.Count(strings.Join(s.stepsSince(last), "\n"), "create_node"); made < created {
			return fmt.Errorf("%d of %d nodes are made", made, created)
		}
		return nil
	})
	s.full(time.Minute)
	var announced []string
	for _, a := range p.Actions {
		if slices.Contains([]reconcile.Kind{reconcile.CreateNode, reconcile.ReleaseNode, reconcile.DestroyNode}, a.Kind) {
			announced = append(announced, fmt.Sprintf("%s %d", a.Kind, a.NodeID))
		}
	}
	if diff := cmp.Diff(perNode(announced), perNode(s.stepsSince(last))); diff != "" {
		t.Errorf("announced and done (-announced +done):\n%s", diff)
	}
	if p, code, _ := s.plan("--pools", s.pools, "--server"); code != 0 || len(p.Actions) != 0 {
		t.Errorf("after that, plan exits with %d: %+v", code, p)
	}

	// A stopped broker is planned for from its data directory, which is only read.
	if _, _, errOut := s.plan("--pools", elsewhere, "--data-dir", s.data); !strings.Contains(errOut, "compare with it: --server") {
		t.Errorf("a running broker's data directory: %s", errOut)
	}
	s.stop()
	before := s.dataFiles()
	p, code, errOut = s.plan("--pools", s.pools, "--data-dir", s.data)
	if code != 0 || p.Pools[0].Stock.Ready != 3 {
		t.Errorf("nothing has changed, and plan exits with %d: %+v\n%s", code, p.Pools, errOut)
	}
	write(elsewhere, strings.NewReplacer("very-secret-license", "very-secret-third", "fill_level    = 3", "fill_level    = 1").Replace(pools))
	p, code, errOut = s.plan("--pools", elsewhere, "--data-dir", s.data)
	if code != plan.ExitDanger || p.Summary.StockDestroyed != 3 || len(p.Pools[0].Generation.Inputs) != 1 {
		t.Errorf("exit code %d: %+v\n%s", code, p.Summary, errOut)
	}
	if diff := cmp.Diff(before, s.dataFiles()); diff != "" {
		t.Errorf("planning changed the data directory:\n%s", diff)
	}
}

// noSecrets checks that neither the API nor the data directory shows a text.
func (s *server) noSecrets(text string) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.url+"/api/v1/snapshot", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth("admin", s.profile.Tenants["admin"].APIKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("snapshot: %d, %v", resp.StatusCode, err)
	}
	if strings.Contains(answer.String(), text) || !strings.Contains(answer.String(), "$sensitive") {
		s.t.Errorf("the snapshot shows what is sensitive, or lacks it: %s", answer.String())
	}
	running, err := os.ReadFile(filepath.Join(s.data, runningFile))
	if err != nil || bytes.Contains(running, []byte(text)) || bytes.Contains(running, []byte("mask_key")) {
		s.t.Errorf("%s shows what is sensitive: %v\n%s", runningFile, err, running)
	}
}

type apiEvent struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Pool    string    `json:"pool"`
	NodeID  int64     `json:"node_id"`
	Kind    string    `json:"kind"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Message string    `json:"message"`
}

// events are all of the broker's, by the command line.
func (s *server) events(after int64) (all []apiEvent) {
	s.t.Helper()
	out, err := s.command(context.Background(), "events", "--format", "json", "--after", fmt.Sprint(after)).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var e apiEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func (s *server) lastEvent() int64 {
	all := s.events(0)
	return all[len(all)-1].Seq
}

// stepsSince are the actions that events show; new nodes have no number, as in a plan.
func (s *server) stepsSince(after int64) (steps []string) {
	made := make(map[int64]bool)
	for _, e := range s.events(after) {
		switch {
		case e.Kind != "node":
		case e.To == string(broker.NodeApplying):
			made[e.NodeID] = true
			steps = append(steps, "create_node 0")
		case e.To == string(broker.NodeReleasing):
			steps = append(steps, fmt.Sprintf("release_node %d", e.NodeID))
		case e.To == string(broker.NodeDestroying):
			steps = append(steps, fmt.Sprintf("destroy_node %d", e.NodeID))
		}
	}
	return steps
}

// perNode sorts out what only the clock decides, such as whether a node is
// destroyed before the next one is made: the order of each kind stays.
func perNode(steps []string) map[string][]string {
	kinds := make(map[string][]string)
	for _, step := range steps {
		kind, _, _ := strings.Cut(step, " ")
		kinds[kind] = append(kinds[kind], step)
	}
	return kinds
}

// dataFiles are the files of the data directory, with their sizes and times.
func (s *server) dataFiles() map[string]string {
	s.t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		files[path] = fmt.Sprint(info.Size(), info.ModTime())
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}
