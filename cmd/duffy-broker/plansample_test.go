package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/plan"
)

// A sample says what Terraform would make of changed pools, or why it can't; others
// are not asked.
func TestPlanSample(t *testing.T) {
	t.Parallel()
	terraform := brokertest.NeedProgram(t, "terraform")
	module := `
variable "broker" { type = any }
variable "image" { default = "" }
resource "terraform_data" "node" {
  input = var.image
  lifecycle {
    precondition {
      condition     = var.image != "missing"
      error_message = "there is no image ${var.image}"
    }
  }
}
output "ipaddr" { value = "127.0.0.1" }
`
	pools := func(a, b string) string {
		return `
defaults { module = "./modules/node" }
pool "a" { variables = { image = "` + a + `" } }
pool "b" { variables = { image = "` + b + `" } }
pool "c" {}
`
	}
	dir := gitRepository(t, map[string]string{"pools.hcl": pools("x", "x"), "modules/node/main.tf": module})
	file, scratch := filepath.Join(dir, "pools.hcl"), t.TempDir()
	sample := func(text string) (p plan.Plan, code int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), binary, "plan", "--pools", file, "--sample", "--terraform", terraform, "--format", "json")
		cmd.Env = append(os.Environ(), "TMPDIR="+scratch, "CHECKPOINT_DISABLE=1")
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, _ := cmd.Output() // the code tells
		if err := json.Unmarshal(out, &p); err != nil {
			t.Fatalf("%v\n%s%s", err, out, errOut.String())
		}
		return p, cmd.ProcessState.ExitCode()
	}
	p, code := sample(pools("y", "x"))
	want := []*plan.Sample{{Resources: []string{"terraform_data.node"}}, nil, nil}
	if diff := cmp.Diff(want, []*plan.Sample{p.Pools[0].Sample, p.Pools[1].Sample, p.Pools[2].Sample}); diff != "" || code != plan.ExitChanges {
		t.Errorf("exit code %d, samples (-want +got):\n%s", code, diff)
	}
	p, code = sample(pools("missing", "y"))
	if s := p.Pools[0].Sample; code != 1 || s.Class != broker.FailureConfiguration || !strings.Contains(s.Problem, "there is no image missing") {
		t.Errorf("exit code %d, a sample that fails: %+v", code, s)
	}
	if s := p.Pools[1].Sample; s == nil || s.Problem != "" {
		t.Errorf("one that does not, after it: %+v", s)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
