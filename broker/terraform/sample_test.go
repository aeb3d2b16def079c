package terraform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

const sampleModule = `
variable "broker" { type = any }
variable "password" {
  default   = "hunter22"
  sensitive = true
}
variable "answer" { default = "fine" }
resource "terraform_data" "disk" { count = 2 }
resource "terraform_data" "node" {
  input = var.broker.node_id
  lifecycle {
    precondition {
      condition     = var.answer == "fine"
      error_message = nonsensitive("the cloud says 403 forbidden to ${var.password}")
    }
  }
}
output "ipaddr" { value = "127.0.0.1" }
`

func TestSample(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := modulePool(t, sampleModule, map[string]any{})
	p.CreateTimeout = time.Minute
	got, err := e.Sample(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"terraform_data.disk[0]", "terraform_data.disk[1]", "terraform_data.node"}, got); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(e.runsDir()); err != nil || len(left) > 0 {
		t.Errorf("left of it: %v, %v", left, err)
	}
	if states, _ := filepath.Glob(filepath.Join(e.Dir, "*", "*", "*.tfstate")); len(states) > 0 {
		t.Errorf("it wrote %v", states)
	}
}

// An error has a class, and no secret.
func TestSampleFails(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := modulePool(t, sampleModule, map[string]any{"answer": "no", "password": "hunter23"})
	p.CreateTimeout = time.Minute
	write(t, filepath.Join(p.Module, moduleFile), "errors {\n  auth = [\"the cloud says 403\"]\n}\n")
	_, err := e.Sample(t.Context(), p)
	if broker.FailureClassOf(err) != broker.FailureAuth || strings.Contains(err.Error(), "hunter23") {
		t.Errorf("class %s: %v", broker.FailureClassOf(err), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Sample(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
