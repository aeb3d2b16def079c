package terraform

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

func TestLockWarnings(t *testing.T) {
	const null, random = "registry.terraform.io/hashicorp/null", "registry.terraform.io/hashicorp/random"
	tests := map[string]struct {
		before, after lockFile
		want          []string
	}{
		"no providers":           {nil, nil, nil},
		"complete":               {lockFile{null: {"h1:a", "zh:b"}}, lockFile{null: {"h1:a", "zh:b"}}, nil},
		"no file":                {nil, lockFile{random: {"h1:a"}, null: {"h1:b"}}, []string{"it has no .terraform.lock.hcl, *: " + null + ", " + random}},
		"an empty file":          {lockFile{}, lockFile{null: {"h1:a"}}, []string{"its .terraform.lock.hcl does not have the provider " + null}},
		"without checksums":      {lockFile{null: nil}, lockFile{null: {"h1:a"}}, []string{"its .terraform.lock.hcl lacks checksums of the provider " + null + " for " + platform()}},
		"of another platform":    {lockFile{null: {"h1:a", "zh:b"}}, lockFile{null: {"h1:a", "h1:c", "zh:b"}}, []string{"lacks checksums of the provider " + null}},
		"one complete, one not":  {lockFile{null: {"h1:a"}, random: {}}, lockFile{null: {"h1:a"}, random: {"h1:b"}}, []string{"lacks checksums of the provider " + random}},
		"provider that has gone": {lockFile{null: {"h1:a"}}, lockFile{}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := lockWarnings(tt.before, tt.after)
			if len(got) != len(tt.want) {
				t.Fatalf("got %+v, want %q", got, tt.want)
			}
			for i, w := range got {
				for part := range strings.SplitSeq(tt.want[i], "*") {
					if !strings.Contains(w.Text, part) || !w.Lock {
						t.Errorf("got %+v, want it to have %q", w, part)
					}
				}
			}
		})
	}
}

func TestReadLockFile(t *testing.T) {
	for text, want := range map[string]lockFile{
		"": {},
		"provider \"a\" {\n  hashes = [\n    \"h1:x\",\n  ]\n}":                                                               {"a": {"h1:x"}},
		"provider \"a\" {\n  version = \"1\"\n}\nprovider \"b\" {\n  hashes = null\n}\nprovider \"c\" {\n  hashes = \"x\"\n}": {"a": nil, "b": nil, "c": nil},
		"provider \"a\" {\n  hashes = [null, 1, \"h1:x\"]\n}\n":                                                               {"a": {"h1:x"}},
		"no lock file": {},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, lockFileName), text)
		if diff := cmp.Diff(want, readLockFile(dir)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	if got := readLockFile(t.TempDir()); got != nil {
		t.Errorf("without a file: %v", got)
	}
}

func TestLockCommand(t *testing.T) {
	e := New(Config{Binary: Binary{Product: OpenTofu}})
	for module, want := range map[string]string{
		"/srv/modules/a_b-1.2":  "/srv/modules/a_b-1.2",
		"/srv/it's a module $x": `'/srv/it'\''s a module $x'`,
	} {
		if got, want := e.lockCommand(module), "tofu -chdir="+want+" providers lock -platform="+platform(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(module)).Output()
		if err != nil || string(out) != module {
			t.Errorf("the shell takes it for %q, %v", out, err)
		}
	}
}

// What validate warns of is told at every Prepare, not at the first one only, and
// built-in providers need no lock file.
func TestWarningsAreGivenAgain(t *testing.T) {
	program, calls := counted(t)
	var logged bytes.Buffer
	e := testEngine(t, program, func(c *Config) { c.Log = logTo(&logged) })
	p := modulePool(t, goodModule+"resource \"terraform_data\" \"x\" {\n  provisioner \"local-exec\" {\n    command = \"true\"\n    when    = \"create\"\n  }\n}\n", nil)
	for i := range 2 {
		logged.Reset()
		prepared(t, e, p)
		text := logged.String()
		if strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "Quoted keywords are deprecated") || !strings.Contains(text, "pool=small module="+p.Module) ||
			strings.Contains(text, "mend_with") {
			t.Errorf("time %d logged:\n%s", i+1, text)
		}
	}
	if got := read(t, calls); strings.Count(got, "validate") != 1 {
		t.Errorf("terraform was called for:\n%s", got)
	}
	// A note that is damaged is no reason to refuse the module.
	template := prepared(t, e, p).Source.Template
	note := filepath.Join(e.templatesDir(), template, ownDir, warningsFile)
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	write(t, note, "{")
	logged.Reset()
	prepared(t, e, p)
	if !strings.Contains(logged.String(), "can't be read") {
		t.Errorf("logged:\n%s", logged.String())
	}
}

func TestLocalModuleNeedsNoLockFile(t *testing.T) {
	var logged bytes.Buffer
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"), func(c *Config) { c.Log = logTo(&logged) })
	p := modulePool(t, goodModule, nil)
	p.Module = filepath.Join("..", "..", "modules", "local")
	prepared(t, e, p)
	if strings.Contains(logged.String(), "WARN") {
		t.Errorf("logged:\n%s", logged.String())
	}
}

// OpenTofu warns of a missing CLI configuration in front of the JSON that is asked
// of it.
func TestPrepareWithoutTheCLIConfiguration(t *testing.T) {
	program := brokertest.NeedProgram(t, "terraform")
	missing := filepath.Join(t.TempDir(), "terraform.rc")
	t.Setenv(cliConfigVariable, missing)
	var logged bytes.Buffer
	if _, err := Find(t.Context(), FindOptions{Path: program, Log: logTo(&logged)}); err != nil || !strings.Contains(logged.String(), missing) {
		t.Errorf("%v; logged:\n%s", err, logged.String())
	}
	e := testEngine(t, program)
	n := broker.NewNode(prepared(t, e, modulePool(t, nodeModule, nil)), time.Now())
	destroy(t, e, n, apply(t, e, n).State)
	t.Setenv(cliConfigVariable, program)
	if !slices.Contains(environment(), cliConfigVariable+"="+program) {
		t.Error("a CLI configuration that is there is not used")
	}
}
