package terraform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// What a node is made from has the same name in every version of the broker: else
// an upgrade would replace all stock. If this test fails, don't change what it
// wants: read docs/adr/0005 first.
func TestGenerationStaysTheSame(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "main.tf"), "variable \"broker\" {}\noutput \"ipaddr\" { value = \"127.0.0.1\" }\n")
	write(t, filepath.Join(root, lockFileName), "# locked\n")
	write(t, filepath.Join(root, "files", "run.sh"), "true\n")
	if err := os.Chmod(filepath.Join(root, "files", "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("files/run.sh", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	source, _, err := new(Inspector).Inspect(broker.Pool{Name: "a", Module: root})
	if err != nil {
		t.Fatal(err)
	}
	want := broker.Source{Template: "c30ac6171fac0f198ab711ccbc6e96e2", Generation: "e9dfab71945ac607ae7724a4"}
	if diff := cmp.Diff(want, source); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	if got := generation("template", []byte(`{"size":"large"}`), nil); got != "369718f41ed5b50484db0a28" {
		t.Errorf("generation %s", got)
	}
}

// A plan must say what the broker then does: the sources are the same.
func TestInspectGivesWhatPrepareGives(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := modulePool(t, nodeModule, map[string]any{"note": 1, "gates": "g"})
	prepared, err := e.Prepare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	inspected, module, err := new(Inspector).Inspect(p)
	if err != nil {
		t.Fatal(err)
	}
	prepared.Variables = nil // sealed
	if diff := cmp.Diff(prepared, inspected); diff != "" {
		t.Errorf("sources (-prepared +inspected):\n%s", diff)
	}
	kept, err := e.ReadModule(prepared.Template)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(module, kept); diff != "" {
		t.Errorf("modules (-inspected +kept):\n%s", diff)
	}

	// An earlier version kept no manifest: then only the lock file is not known.
	if err := os.Remove(filepath.Join(e.templatesDir(), prepared.Template, ownDir, manifestFile)); err != nil {
		t.Fatal(err)
	}
	kept, err = e.ReadModule(prepared.Template)
	if err != nil {
		t.Fatal(err)
	}
	module.LockUnknown = true
	delete(module.Files, lockFileName)
	if diff := cmp.Diff(module, kept); diff != "" {
		t.Errorf("modules without a manifest (-inspected +kept):\n%s", diff)
	}
	if _, err := e.ReadModule("0123"); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("a module that is not kept: %v", err)
	}
}

func TestInspectNamesFilesAndSecrets(t *testing.T) {
	p := modulePool(t, `
variable "broker" {}
variable "size" { default = "small" }
variable "license" {
  default   = ""
  sensitive = true
}
variable "admin_password" { default = "" }
output "ipaddr" { value = "127.0.0.1" }
`, nil)
	write(t, filepath.Join(p.Module, "files", "setup.sh"), "true")
	var i Inspector
	_, first, err := i.Inspect(p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"admin_password", "license"}, first.Sensitive); diff != "" {
		t.Errorf("sensitive variables (-want +got):\n%s", diff)
	}
	if err := os.Chmod(filepath.Join(p.Module, "files", "setup.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, second, err := new(Inspector).Inspect(p)
	if err != nil {
		t.Fatal(err)
	}
	if first.Files["files/setup.sh"] == second.Files["files/setup.sh"] || first.Files["main.tf"] != second.Files["main.tf"] {
		t.Errorf("files after another may be executed: %v, before: %v", second.Files, first.Files)
	}
	if _, again, _ := i.Inspect(p); !cmp.Equal(again, first) {
		t.Error("one look reads a module twice")
	}
}

func TestInspectFindsMistakes(t *testing.T) {
	p := modulePool(t, `variable "broker" {}`, map[string]any{"size": "small"})
	_, _, err := new(Inspector).Inspect(p)
	for _, want := range []string{`no output "ipaddr"`, `no variable "size"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	p.Variables = json.RawMessage(`[]`)
	if _, _, err := new(Inspector).Inspect(p); broker.CodeOf(err) != broker.CodeInvalid {
		t.Errorf("variables that are a list: %v", err)
	}
	p.Module = filepath.Join(p.Module, "none")
	if _, _, err := new(Inspector).Inspect(p); broker.CodeOf(err) != broker.CodeInvalid {
		t.Errorf("no directory: %v", err)
	}
}
