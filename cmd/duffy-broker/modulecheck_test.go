package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// The corpus in testdata/module: each archive has a pools.hcl and its modules, and
// what validate says of them, as text and as JSON.
func TestModuleMistakes(t *testing.T) {
	paths, err := filepath.Glob("testdata/module/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	start, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir, want := t.TempDir(), map[string]string{}
			kept := archive.Files[:0]
			for _, f := range archive.Files {
				if strings.HasPrefix(f.Name, "expected.") {
					want[f.Name] = string(f.Data)
					continue
				}
				kept = append(kept, f)
				writeFile(t, filepath.Join(dir, f.Name), string(f.Data))
			}
			t.Chdir(dir)
			got := map[string]string{}
			_, _, got["expected.txt"] = validated(t)
			_, got["expected.json"], _ = validated(t, "--format", "json")
			for name, text := range got {
				got[name] = strings.ReplaceAll(text, runtime.GOOS+"_"+runtime.GOARCH, "PLATFORM")
			}
			if *update {
				archive.Files = kept
				for _, name := range []string{"expected.txt", "expected.json"} {
					archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(got[name])})
				}
				writeFile(t, filepath.Join(start, path), string(txtar.Format(archive)))
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for name, text := range got {
				if strings.Contains(text, "hunter2") {
					t.Errorf("%s shows a value that is sensitive", name)
				}
			}
		})
	}
}

// validated validates the pools.hcl of the present directory.
func validated(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e strings.Builder
	code = run(t.Context(), append([]string{"validate"}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serve and reload tell mistakes in modules with both places, before Terraform runs
// and of what it finds, and the old pools stay.
func TestModuleMistakesOfTheDaemon(t *testing.T) {
	t.Parallel()
	module := t.TempDir()
	main := filepath.Join(module, "main.tf")
	good := plainModule + "variable \"size\" {\n  type    = number\n  default = 1\n}\n"
	writeFile(t, main, good)
	typeLine := 1 + strings.Count(plainModule, "\n") + 1
	pools := fmt.Sprintf("pool \"plain\" {\n  module        = %q\n  contextualize = \"none\"\n  fill_level    = 1\n  variables = {\n    size = 1\n  }\n}\n", module)
	bad := strings.Replace(pools, "size = 1", `size = "large"`, 1)
	says := func(what, out string, want ...string) {
		t.Helper()
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("%s does not say %q:\n%s", what, text, out)
			}
		}
	}

	s := newServer(t, bad)
	cmd := s.command(t.Context(), "serve", "--pools", s.pools, "--data", s.data, "--listen", "127.0.0.1:0", "--terraform", "/nonexistent/terraform")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("serve took a value of the wrong type")
	}
	says("serve", string(out), s.pools+" line 6, in pool", main+fmt.Sprintf(" line %d, in variable", typeLine), "a number is required", "has mistakes")

	s.writePools(pools)
	s.start()
	s.full(time.Minute)
	before := s.knownNodes()
	reload := func() string {
		t.Helper()
		out, err := s.command(t.Context(), "reload").CombinedOutput()
		if err == nil {
			t.Fatalf("a reload took a mistake:\n%s", out)
		}
		return string(out)
	}
	s.writePools(bad)
	says("a reload", reload(), s.pools+" line 6, in pool", main+fmt.Sprintf(" line %d, in variable", typeLine), "a number is required")

	s.writePools(pools)
	writeFile(t, main, good+"output \"data\" {\n  value = local.nothing\n}\n")
	says("a reload", reload(), s.pools+" line 2, in pool", main+fmt.Sprintf(" line %d, in output", typeLine+4), "Reference to undeclared local value")

	s.full(time.Minute)
	if diff := cmp.Diff(before, s.knownNodes()); diff != "" {
		t.Errorf("a refused reload touches the stock:\n%s", diff)
	}
	s.stop()
}
