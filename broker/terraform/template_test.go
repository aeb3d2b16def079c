package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goodModule is the smallest that the contract allows.
const goodModule = "variable \"broker\" {}\noutput \"ipaddr\" { value = \"127.0.0.1\" }\n"

// counted gives a program that runs the real Terraform and notes each call in a file.
func counted(t *testing.T) (program, calls string) {
	t.Helper()
	real := brokertest.NeedProgram(t, "terraform")
	dir := t.TempDir()
	program, calls = filepath.Join(dir, "terraform"), filepath.Join(dir, "calls")
	write(t, program, "#!/bin/sh\necho $1 >> '"+calls+"'\nexec '"+real+"' \"$@\"\n")
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	return program, calls
}

func TestPrepareInitialisesOnce(t *testing.T) {
	program, calls := counted(t)
	e := testEngine(t, program)
	p := modulePool(t, nodeModule, map[string]any{"note": "n"})

	var wg sync.WaitGroup
	sources := make([]broker.Source, 8)
	for i := range sources {
		wg.Go(func() {
			var err error
			if sources[i], err = e.Prepare(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	again, err := engineIn(t, e.Dir, program).Prepare(t.Context(), p) // after a restart
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		s.Variables = again.Variables // sealed anew each time
		if diff := cmp.Diff(again, s); diff != "" {
			t.Errorf("sources differ:\n%s", diff)
		}
	}
	if got := read(t, calls); strings.Count(got, "init") != 1 || strings.Count(got, "validate") != 1 {
		t.Errorf("terraform was called for:\n%s\nwant one init and one validate", got)
	}

	before := len(read(t, calls))
	for range 3 {
		n := broker.NewNode(p, time.Now())
		n.Source = again
		result := apply(t, e, n)
		destroy(t, e, n, result.State)
	}
	if got := read(t, calls)[before:]; got != strings.Repeat("apply\ndestroy\n", 3) {
		t.Errorf("three nodes needed the calls:\n%s", got)
	}

	entries, err := os.ReadDir(e.templatesDir())
	if err != nil || len(entries) != 1 || entries[0].Name() != again.Template {
		t.Errorf("kept modules: %v, %v", entries, err)
	}
	info, err := os.Stat(filepath.Join(e.templatesDir(), again.Template, "main.tf"))
	if err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("main.tf of the kept module: %v, %v, want mode 0400", info.Mode(), err)
	}
}

func TestGeneration(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	base := modulePool(t, nodeModule, map[string]any{"note": 1, "gates": "g"})
	write(t, filepath.Join(base.Module, "files", "setup.sh"), "true")
	source := func() broker.Source {
		t.Helper()
		s, err := e.Prepare(t.Context(), base)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := source()
	if len(first.Generation) != generationDigits {
		t.Errorf("generation %q", first.Generation)
	}

	same := map[string]func(){
		"other order and spaces": func() { base.Variables = json.RawMessage(`{ "gates": "g", "note" : 1 }`) },
		"terraform's own files": func() {
			write(t, filepath.Join(base.Module, ".terraform", "x"), "x")
			write(t, filepath.Join(base.Module, "terraform.tfstate.backup"), "x")
			write(t, filepath.Join(base.Module, ".git", "HEAD"), "x")
		},
		"words for people": func() { write(t, filepath.Join(base.Module, "README.md"), "# x\n") },
		"other group's rights": func() {
			if err := os.Chmod(filepath.Join(base.Module, "main.tf"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, change := range same {
		change()
		got := source()
		got.Variables = first.Variables // sealed anew each time
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("%s changes the source:\n%s", name, diff)
		}
	}
	seen := map[string]string{first.Generation: "the first"}
	for _, step := range []struct {
		name   string
		change func()
	}{
		{"another variable", func() { base.Variables = json.RawMessage(`{"note":2,"gates":"g"}`) }},
		{"no variables", func() { base.Variables = nil }},
		{"a file's content", func() { write(t, filepath.Join(base.Module, "files", "setup.sh"), "false") }},
		{"an executable bit", func() {
			if err := os.Chmod(filepath.Join(base.Module, "files", "setup.sh"), 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file's name", func() {
			if err := os.Rename(filepath.Join(base.Module, "files", "setup.sh"), filepath.Join(base.Module, "files", "start.sh")); err != nil {
				t.Fatal(err)
			}
		}},
		{"a lock file", func() { write(t, filepath.Join(base.Module, ".terraform.lock.hcl"), "# locked\n") }},
		{"a link", func() {
			if err := os.Symlink("files/start.sh", filepath.Join(base.Module, "link")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		step.change()
		s := source()
		if other, ok := seen[s.Generation]; ok {
			t.Errorf("%s gives the generation of %s", step.name, other)
		}
		seen[s.Generation] = step.name
	}
}

func TestPrepareUsesTheWholeTree(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := modulePool(t, `
variable "broker" {}
module "a" { source = "./modules/a" }
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "${path.module}/files/run.sh" }
}
output "ipaddr" { value = module.a.address }
output "data" { value = file("link") }
`, nil)
	write(t, filepath.Join(p.Module, "modules", "a", "main.tf"), "module \"b\" { source = \"../b\" }\noutput \"address\" { value = module.b.address }")
	write(t, filepath.Join(p.Module, "modules", "b", "main.tf"), "output \"address\" { value = trimspace(file(\"${path.module}/address\")) }")
	write(t, filepath.Join(p.Module, "modules", "b", "address"), "127.0.0.7\n")
	write(t, filepath.Join(p.Module, "files", "run.sh"), "#!/bin/sh\ntrue\n")
	if err := os.Chmod(filepath.Join(p.Module, "files", "run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("files/run.sh", filepath.Join(p.Module, "link")); err != nil {
		t.Fatal(err)
	}
	n := broker.NewNode(prepared(t, e, p), time.Now())
	if err := os.RemoveAll(p.Module); err != nil {
		t.Fatal(err)
	}
	result := apply(t, e, n)
	if result.Outputs.Address != "127.0.0.7" || !strings.Contains(string(result.Outputs.Data), "/bin/sh") {
		t.Errorf("outputs: %+v", result.Outputs)
	}
	destroy(t, e, n, result.State)
}

// TestPrepareReportsMistakes compares what is said of bad modules with golden files.
const goodSweep = "variable \"broker\" {}\noutput \"nodes\" { value = [] }\noutput \"complete\" { value = true }\n"

func TestPrepareReportsMistakes(t *testing.T) {
	binary := brokertest.NeedProgram(t, "terraform")
	outside := t.TempDir()
	tests := map[string]struct {
		files     map[string]string
		links     map[string]string
		variables string
	}{
		"no-files":      {files: map[string]string{"README.md": "no module"}},
		"no-contract":   {files: map[string]string{"main.tf": "output \"address\" { value = 1 }\n"}},
		"syntax":        {files: map[string]string{"main.tf": goodModule, "bad.tf": "variable \"x\" {\n  default = \n}\n"}},
		"variables":     {files: map[string]string{"main.tf": goodModule + "variable \"image\" {}\nvariable \"size\" {}\nvariable \"zone\" { default = 1 }\n"}, variables: `{"imagee":"x","zone":2,"broker":{},"colour":"red"}`},
		"not-an-object": {files: map[string]string{"main.tf": goodModule}, variables: `[1]`},
		"outside":       {files: map[string]string{"main.tf": goodModule + "module \"m\" {\n  source = \"../other\"\n}\nmodule \"n\" { source = \"./sub\" }\n", "sub/main.tf": "module \"o\" { source = \"../../more\" }\n"}},
		"link-outside":  {files: map[string]string{"main.tf": goodModule}, links: map[string]string{"setup.sh": outside}},
		"backend":       {files: map[string]string{"main.tf": goodModule + "terraform {\n  backend \"local\" {}\n}\n"}},
		"sweep-empty":   {files: map[string]string{"main.tf": goodModule, "sweep/README": "a broom"}},
		"sweep-makes":   {files: map[string]string{"main.tf": goodModule, "sweep/main.tf": goodSweep + "resource \"terraform_data\" \"x\" {}\nmodule \"m\" { source = \"../sub\" }\nterraform {\n  cloud {}\n}\n", "sub/main.tf": "resource \"terraform_data\" \"y\" {}\n"}},
		"sweep-outputs": {files: map[string]string{"main.tf": goodModule, "sweep/main.tf": "variable \"zone\" {}\noutput \"nodes\" {\n  value = []\n  sensitive = true\n}\n"}},
		"sweep-invalid": {files: map[string]string{"main.tf": goodModule, "sweep/main.tf": goodSweep + "output \"x\" { value = local.nothing }\n"}},
		"sensitive":     {files: map[string]string{"main.tf": goodModule + "output \"data\" {\n  value = 1\n  sensitive = true\n}\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := testEngine(t, binary)
			dir := t.TempDir()
			for file, content := range tt.files {
				write(t, filepath.Join(dir, file), content)
			}
			for link, target := range tt.links {
				if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := e.Prepare(t.Context(), broker.Pool{Name: "small", Module: dir, Variables: json.RawMessage(tt.variables)})
			if err == nil {
				t.Fatal("it was accepted")
			}
			entries, _ := os.ReadDir(e.templatesDir())
			for _, entry := range entries {
				if strings.HasPrefix(entry.Name(), unfinishedPrefix) {
					t.Errorf("left behind: %s", entry.Name())
				}
			}
			got := strings.ReplaceAll(describe(err), dir, "MODULE")
			golden := filepath.Join("testdata", "prepare", name+".golden")
			if *update {
				write(t, golden, got)
			}
			if diff := cmp.Diff(read(t, golden), got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

// describe lists joined errors with their codes and hints.
func describe(err error) string {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var text strings.Builder
	for _, err := range all {
		fmt.Fprintf(&text, "%s: %v\n", broker.CodeOf(err), err)
		if hint := broker.HintOf(err); hint != "" {
			fmt.Fprintf(&text, "  hint: %s\n", hint)
		}
	}
	return text.String()
}

func TestPrepareReportsEverythingAtOnce(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := modulePool(t, "variable \"size\" {}\nresource \"terraform_data\" \"a\" { input = var.nothing }\nresource \"terraform_data\" \"b\" { inputs = 1 }\n", map[string]any{"sise": 1})
	_, err := e.Prepare(t.Context(), p)
	wantError(t, err, `no variable "broker"`, `no output "ipaddr"`, `no variable "sise"`, `variable "size" has no default`,
		"main.tf:2: Reference to undeclared input variable", "main.tf:3: Unsupported argument")
	if !strings.Contains(describe(err), `hint: did you mean "size"?`) {
		t.Errorf("hints are missing:\n%s", describe(err))
	}
}

func TestPrepareReportsInit(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := modulePool(t, goodModule+"module \"m\" { source = \"./absent\" }\n", nil)
	_, err := e.Prepare(t.Context(), p)
	wantError(t, err, `pool "small": module `+p.Module+": terraform init: Error: ", "absent", "main.tf:3")
	if broker.CodeOf(err) != broker.CodeUnavailable || strings.Contains(err.Error(), "exit status") {
		t.Errorf("code %s of %v", broker.CodeOf(err), err)
	}
	if entries, _ := os.ReadDir(e.templatesDir()); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestPrepareWithoutADirectory(t *testing.T) {
	_, err := testEngine(t, "unused").Prepare(t.Context(), broker.Pool{Name: "small", Module: "/nonexistent/module"})
	wantError(t, err, `pool "small": module /nonexistent/module: there is no such directory`)
	if broker.CodeOf(err) != broker.CodeInvalid {
		t.Errorf("code %s", broker.CodeOf(err))
	}
}

func TestPrepareEndsWithItsContext(t *testing.T) {
	e, _ := fakeEngine(t, "", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Prepare(ctx, modulePool(t, goodModule, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestPruneTemplates(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	if err := e.PruneTemplates(nil); err != nil {
		t.Errorf("with nothing there: %v", err)
	}
	p := modulePool(t, goodModule, nil)
	old := prepared(t, e, p).Source.Template
	write(t, filepath.Join(p.Module, "more.tf"), "locals {}\n")
	kept := prepared(t, e, p).Source.Template
	write(t, filepath.Join(e.templatesDir(), unfinishedPrefix+"1", "main.tf"), "")
	if err := e.PruneTemplates(map[string]bool{kept: true}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(e.templatesDir())
	if err != nil || len(entries) != 1 || entries[0].Name() != kept {
		t.Errorf("left: %v, %v, want %s (%s is old)", entries, err, kept, old)
	}
}

// Variables may hold secrets: what is stored of them can't be read without the
// broker's key, and the module gets them as they were.
func TestVariablesAreSealed(t *testing.T) {
	e, n := fakeEngine(t, "cp .duffy/apply.tfvars.json seen; state '"+stateMade+"'; summary apply", "")
	source := n.Source
	var err error
	source.Generation = generation(source.Template, []byte(`{"password":"hunter22"}`), nil)
	if source.Variables, err = e.sealVariables(source.Generation, []byte(`{"password":"hunter22"}`)); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(source.Variables) || strings.Contains(string(source.Variables), "hunter22") {
		t.Errorf("stored variables: %s", source.Variables)
	}
	n.Source = source
	apply(t, e, n)
	if seen := read(t, filepath.Join(e.runsDir(), n.UID, "seen")); !strings.Contains(seen, `"password": "hunter22"`) {
		t.Errorf("the module saw %s", seen)
	}
}

func TestModuleAroundTheDataDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.tf"), `variable "broker" { type = any }`)
	e := New(Config{Dir: filepath.Join(dir, "data")})
	_, err := e.Prepare(t.Context(), broker.Pool{Name: "small", Module: dir})
	wantError(t, err, "the data directory "+filepath.Join(dir, "data")+" lies in it")
}
