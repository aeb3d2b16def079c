package modules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// Each folder with a Terraform module is in the program, whole, and nothing else
// is.
func TestAll(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	var names []string
	for _, e := range entries {
		if tf, _ := filepath.Glob(filepath.Join(e.Name(), "*.tf")); len(tf) == 0 {
			continue
		}
		names = append(names, e.Name())
		tree := os.DirFS(e.Name())
		err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.Name() == ".terraform", IsTest(tree, name):
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			case d.IsDir(), strings.Contains(name, ".tfstate"), strings.HasSuffix(name, "_test.go"):
				return nil
			}
			content, err := fs.ReadFile(tree, name)
			want[e.Name()+"/"+name] = string(content)
			info, statErr := fs.Stat(tree, name)
			// A checkout and the program would have two generations.
			if statErr == nil && info.Mode()&0o111 != 0 {
				t.Errorf("%s/%s may be executed, which the program can't keep: run it with its interpreter (sh %s)", e.Name(), name, name)
			}
			return errors.Join(err, statErr)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	got := make(map[string]string)
	for _, m := range All() {
		if m.Description == "" || strings.ContainsAny(m.Description, "\n`*[") {
			t.Errorf("%s: its README does not begin with a sentence: %q", m.Name, m.Description)
		}
		err := fs.WalkDir(m.Files, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := fs.ReadFile(m.Files, name)
			got[m.Name+"/"+name] = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("see the go:embed line (-folders +program):\n%s", diff)
	}
	if got := Names(); !slices.Equal(got, names) || !slices.Contains(got, "local") {
		t.Errorf("names %q, want %q", got, names)
	}
}

func TestLookup(t *testing.T) {
	m, ok := Lookup("local")
	if !ok || m.Name != "local" {
		t.Errorf("local: %+v, %t", m, ok)
	}
	if _, ok := Lookup("test"); ok {
		t.Error("test is a module")
	}
}

// What Terraform leaves behind, and what is for its tests, can't be seen.
func TestTree(t *testing.T) {
	all := fstest.MapFS{}
	for _, name := range []string{
		"main.tf", ".terraform.lock.hcl", "duffy.hcl", "sweep/main.tf", "sweep/.terraform.lock.hcl", "templates/tests",
		".terraform/providers/x", "terraform.tfstate", "sweep/.terraform/x", "x_test.go", "main.tftest.hcl", "tests/a.tftest.hcl", "tests/setup/main.tf",
	} {
		all[name] = &fstest.MapFile{}
	}
	module := tree{all}
	var got []string
	if err := fs.WalkDir(module, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{".terraform.lock.hcl", "duffy.hcl", "main.tf", "sweep/.terraform.lock.hcl", "sweep/main.tf", "templates/tests"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name := range all {
		_, err := fs.Stat(module, name)
		if seen := err == nil; seen != slices.Contains(want, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	delete(all, "tests/a.tftest.hcl")
	if _, err := fs.Stat(module, "tests/setup/main.tf"); err != nil {
		t.Errorf("a directory tests without tests: %v", err)
	}
}

func TestFirstSentence(t *testing.T) {
	for readme, want := range map[string]string{
		"# modules/x\n\nA node on\nthe moon. It is cold.\n\nMore.":     "A node on the moon.",
		"# modules/x\n\nA node.\n":                                     "A node.",
		"# modules/x\n":                                                "",
		"# modules/x\n\nA `t3` of [EC2](https://aws.example), *spot*.": "A t3 of EC2, spot.",
	} {
		if got := firstSentence(readme); got != want {
			t.Errorf("%q: %q, want %q", readme, got, want)
		}
	}
}
