package terraform

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestDescribe(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "main.tf"), `
terraform {
  required_version = ">= 1.5"
  required_providers {
    cloud = {
      source  = "example/cloud"
      version = "~> 2.1"
    }
    old = "1.0.0"
  }
}
variable "broker" { type = any }
variable "image" {
  type        = string
  description = "What it boots.\nOf the cloud."
}
variable "disks" {
  type    = list(object({ size = number, kind = optional(string, "ssd") }))
  default = [{ size = 10 }]
}
variable "free" { default = null }
variable "token" {
  type      = map(set(bool))
  sensitive = true
  default   = {}
}
resource "cloud_instance" "node" {}
resource "terraform_data" "x" {}
data "old_thing" "x" {}
output "ipaddr" {
  value       = 1
  description = "Where it is."
}
output "data" { value = 1 }
`)
	write(t, filepath.Join(root, "more.tf.json"), `{"variable": {"shape": {"type": "tuple([string, bool])"}}}`)
	write(t, filepath.Join(root, "duffy.hcl"), "errors {\n  quota     = [\"a\", \"b\"]\n  throttled = [\"c\"]\n}\n")
	write(t, filepath.Join(root, "sweep", "main.tf"), "variable \"broker\" {}\ndata \"lister_all\" \"x\" {}\noutput \"nodes\" { value = [] }\noutput \"complete\" { value = true }\n")
	got, err := Describe(root)
	if err != nil {
		t.Fatal(err)
	}
	want := Description{
		Variables: []DescribedVariable{
			{Name: "image", Type: "string", Description: "What it boots. Of the cloud.", Required: true},
			{Name: "disks", Type: "list(object({ kind = optional(string), size = number }))", Default: json.RawMessage(`[{"size":10}]`)},
			{Name: "free", Type: "any", Default: json.RawMessage("null")},
			{Name: "token", Type: "map(set(bool))", Default: json.RawMessage("{}"), Sensitive: true},
			{Name: "shape", Type: "tuple([string, bool])", Required: true},
		},
		Outputs: []DescribedOutput{{"ipaddr", "Where it is."}, {"data", ""}},
		Providers: []DescribedProvider{
			{"cloud", "example/cloud", "~> 2.1"}, {"lister", "hashicorp/lister", ""}, {"old", "hashicorp/old", "1.0.0"},
		},
		Terraform: ">= 1.5", Errors: []broker.FailureClass{"quota", "throttled"}, Sweep: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	_, err = Describe(t.TempDir())
	wantError(t, err, "no Terraform module")
	bad := t.TempDir()
	write(t, filepath.Join(bad, "main.tf"), "variable \"x\" {\n")
	_, err = Describe(bad)
	wantError(t, err, "can't be read: main.tf:")
}
