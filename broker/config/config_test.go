package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file, or writes the file. Paths of this machine are
// taken out first.
func golden(t *testing.T, path, got string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got = strings.ReplaceAll(got, here, "HERE")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make it with go test -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// messages prints diagnostics as an operator sees them.
func messages(t *testing.T, f *config.File, diags hcl.Diagnostics) string {
	t.Helper()
	var out bytes.Buffer
	if err := config.WriteDiagnostics(&out, f.Files(), diags, false, 100); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// files gives the files of a pattern, and fails without any.
func files(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return paths
}

// load loads a file without mistakes.
func load(t *testing.T, path string) *config.File {
	t.Helper()
	f, diags := config.Load(path)
	if len(diags) > 0 {
		t.Fatalf("mistakes in %s:\n%s", path, messages(t, f, diags))
	}
	return f
}

// write puts a file into a new directory that also has a module.
func write(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "module"), os.DirFS("testdata/modules/local")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pools.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadText loads a text, with a module beside it.
func loadText(t *testing.T, text string) (*config.File, hcl.Diagnostics) {
	t.Helper()
	return config.Load(write(t, text))
}

func TestGood(t *testing.T) {
	t.Setenv("DUFFY_TEST_REGION", "eu-west-1")
	for _, path := range files(t, "testdata/*.good.hcl") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f := load(t, path)
			got, err := json.MarshalIndent(f.Pools, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".hcl")+".json", string(got)+"\n")
		})
	}
}

func TestBad(t *testing.T) {
	for _, path := range files(t, "testdata/bad/*.hcl") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, diags := config.Load(path)
			if len(diags) != 1 {
				t.Errorf("%d messages for one mistake", len(diags))
			}
			if !diags.HasErrors() || f.Pools != nil {
				t.Errorf("the file was accepted, with %d pools", len(f.Pools))
			}
			for _, d := range diags {
				if d.Subject == nil || d.Subject.Filename != path {
					t.Errorf("message without a place: %s", d)
				}
			}
			text := messages(t, f, diags)
			if strings.Contains(text, "hunter2") { // the password in these files
				t.Errorf("a password is shown:\n%s", text)
			}
			golden(t, strings.TrimSuffix(path, ".hcl")+".golden", text)
		})
	}
}

// TestMany checks that no mistake hides another one, also behind a syntax error.
func TestMany(t *testing.T) {
	f, diags := config.Load("testdata/many.hcl")
	if f.Pools != nil {
		t.Errorf("got %d pools from a file with mistakes", len(f.Pools))
	}
	golden(t, "testdata/many.golden", messages(t, f, diags))
}

// TestSame checks that messages come in the same order each time, though maps
// are involved.
func TestSame(t *testing.T) {
	f, diags := config.Load("testdata/many.hcl")
	want := messages(t, f, diags)
	for range 20 {
		f, diags := config.Load("testdata/many.hcl")
		if diff := cmp.Diff(want, messages(t, f, diags)); diff != "" {
			t.Fatalf("another text (-first +now):\n%s", diff)
		}
	}
}

// TestNoFile covers what goes wrong before there is anything to parse.
func TestNoFile(t *testing.T) {
	tests := map[string]string{
		"missing":   "testdata/nowhere.hcl",
		"directory": "testdata/modules",
		// A path through a file: unreadable for root, too.
		"unreadable": "testdata/minimal.good.hcl/pools.hcl",
	}
	for name, path := range tests {
		t.Run(name, func(t *testing.T) {
			f, diags := config.Load(path)
			if !diags.HasErrors() || f == nil || f.Pools != nil {
				t.Fatalf("got file %v and no error", f)
			}
			golden(t, "testdata/file-"+name+".golden", messages(t, f, diags))
		})
	}
}

func TestTerraform(t *testing.T) {
	f := load(t, "testdata/full.good.hcl")
	if got, want := f.Terraform.RequiredVersion.String(), ">= 1.5.0, < 2.0.0"; got != want {
		t.Errorf("required version: got %q, want %q", got, want)
	}
	if got, want := f.Terraform.Runs, 6; got != want {
		t.Errorf("runs: got %d, want %d", got, want)
	}
	if got, want := f.Terraform.MemoryPerRun, int64(96<<20); got != want {
		t.Errorf("memory a run: got %d, want %d", got, want)
	}

	f = load(t, "testdata/minimal.good.hcl")
	if got := f.Terraform.RequiredVersion; got != nil {
		t.Errorf("required version: got %s from a file that has none", got)
	}
	if got := f.Terraform.Runs; got != 0 {
		t.Errorf("runs: got %d from a file that leaves them to the memory", got)
	}
	if got, want := f.Terraform.MemoryPerRun, int64(64<<20); got != want {
		t.Errorf("built-in memory a run: got %d, want %d", got, want)
	}
}

func TestAccounts(t *testing.T) {
	f := load(t, "testdata/full.good.hcl")
	want := []broker.Account{
		{Name: "cloud-eu", Rate: 0.5, Burst: 5, DestroyShare: 0.25},
		{Name: "cloud-us", Rate: 2.5, Burst: 3, DestroyShare: 0.5},
	}
	if diff := cmp.Diff(want, f.Accounts); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	for text, want := range map[string]float64{"1/s": 1, "90/m": 1.5, "1800/h": 0.5, "0.5/s": 0.5, "1000/s": 1000} {
		path := write(t, fmt.Sprintf("account \"x\" { rate_limit = %q }\npool \"a\" { module = \"./module\" }", text))
		if got := load(t, path).Accounts; len(got) != 1 || got[0].Rate != want || float64(got[0].Burst) < want {
			t.Errorf("%s is read as %+v, want %g a second", text, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"64MiB": 64 << 20, "1GiB": 1 << 30, "100 MB": 100e6, "2GB": 2e9} {
		path := write(t, fmt.Sprintf("terraform { memory_per_run = %q }\npool \"a\" { module = \"./module\" }", text))
		if got := load(t, path).Terraform.MemoryPerRun; got != want {
			t.Errorf("%s is read as %d bytes, want %d", text, got, want)
		}
	}
}

// TestModule checks that modules belong to the file's directory, wherever the
// broker was started.
func TestModule(t *testing.T) {
	path := write(t, `pool "a" { module = "./module" }`)
	dir := filepath.Dir(path)
	t.Chdir(filepath.Dir(dir))
	for _, path := range []string{path, filepath.Join(filepath.Base(dir), "pools.hcl")} {
		if got, want := load(t, path).Pools[0].Module, filepath.Join(dir, "module"); got != want {
			t.Errorf("%s: got module %s, want %s", path, got, want)
		}
	}
}

// TestVariables checks that the same variables give the same bytes, since the
// generation of nodes is a hash of them.
func TestVariables(t *testing.T) {
	for name, text := range map[string]string{
		"order":     `variables = { b = { y = 1, x = 2 }, a = 1.50 }`,
		"spelling":  `variables = jsondecode("{ \"a\": 15e-1, \"b\": { \"x\": 2.0, \"y\": 1 } }")`,
		"inherited": `extends = "t"` + "\n" + `variables = { a = 1 + 1 / 2 }`,
	} {
		t.Run(name, func(t *testing.T) {
			f := load(t, write(t, `
				template "t" { variables = { a = 7, b = { x = 2, y = 1 } } }
				pool "a" {
					module = "./module"
					`+text+`
				}`))
			got, want := string(f.Pools[0].Variables), `{"a":1.5,"b":{"x":2,"y":1}}`
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestDuration covers the forms of a length of time.
func TestDuration(t *testing.T) {
	tests := map[string]string{
		"90s": "1m30s", "10m": "10m0s", "1h30m": "1h30m0s", "1.5h": "1h30m0s", "500ms": "500ms",
		"1d": "24h0m0s", "1w2d": "216h0m0s", "1w": "168h0m0s", "1d12h": "36h0m0s", "1d0.5h": "24h30m0s", "0d5m": "5m0s",
		"": "", "d": "", "1": "", "1x": "", "2d1w": "", "1d-1h": "", "-1d": "", "99999999w": "", "999999999w": "", "1000d900000000d": "", "9999999999d": "", "\\n1d": "", "9999w2562047h": "", "0s": "", "1 d": "",
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			f, diags := config.Load(write(t, "pool \"a\" {\n module = \"./module\"\n create_timeout = \""+text+"\"\n}"))
			got := ""
			if !diags.HasErrors() {
				got = f.Pools[0].CreateTimeout.String()
			}
			if got != want {
				t.Errorf("got %q, want %q\n%s", got, want, messages(t, f, diags))
			}
		})
	}
}

// TestDefaultFile checks the file that the repository comes with, as far as it
// does not depend on the modules there.
func TestDefaultFile(t *testing.T) {
	src, err := os.ReadFile("../../pools.hcl")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, strings.ReplaceAll(string(src), "./modules/local", "./module"))
	f := load(t, path)
	type pool struct {
		Name, Variables string
		Fill, Most      int
		SSH             bool
		Contextualize   broker.ContextualizeMode
	}
	var got []pool
	for _, p := range f.Pools {
		got = append(got, pool{p.Name, string(p.Variables), p.FillLevel, p.MaxNodes, p.Ready.SSH, p.Contextualize})
	}
	want := []pool{
		{"local-small", `{"size":"small"}`, 3, 8, true, broker.ContextualizeSSH},
		{"local-large", `{"size":"large"}`, 2, 4, true, broker.ContextualizeSSH},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	if got, want := f.Terraform.RequiredVersion.String(), ">= 1.5.0"; got != want {
		t.Errorf("required version: got %q, want %q", got, want)
	}
}

// FuzzLoad checks that no text makes Load panic, that it gives pools or errors,
// that the pools keep what is promised, and that messages can be printed.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/*.hcl", "testdata/bad/*.hcl", "testdata/dir.*/[0-9a-c]*.hcl"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			src, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	// Numbers such as 1e999999999 are legal, and take a gigabyte in digits.
	costly := regexp.MustCompile(`[eE][+-]?\d{4}|pow|range|setproduct|\bfor\b|%\d{4}`)
	dir := f.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "modules"), os.DirFS("testdata/modules")); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(dir, "pools.hcl")
	f.Fuzz(func(t *testing.T, src []byte) {
		if costly.Match(src) {
			t.Skip("valid, but slow to evaluate by its size alone")
		}
		if err := os.WriteFile(path, src, 0o600); err != nil {
			t.Fatal(err)
		}
		file, diags := config.Load(path)
		messages(t, file, diags)
		if diags.HasErrors() == (len(file.Pools) > 0) {
			t.Fatalf("%d pools and %d messages", len(file.Pools), len(diags))
		}
		names := make(map[string]bool)
		for _, p := range file.Pools {
			if names[p.Name] || p.Name == "" {
				t.Fatalf("two pools, or none, have the name %q", p.Name)
			}
			names[p.Name] = true
		}
		for _, m := range file.Moves {
			if names[m.From] || !names[m.To] {
				t.Fatalf("pool %q moves to %q, and the pools are %v", m.From, m.To, names)
			}
		}
		formatted, _, diags := config.Format(path, src)
		if again, _, _ := config.Format(path, formatted); !diags.HasErrors() && len(file.Pools) > 0 {
			if err := os.WriteFile(path, again, 0o600); err != nil {
				t.Fatal(err)
			}
			if other, diags := config.Load(path); len(other.Pools) != len(file.Pools) {
				t.Fatalf("formatted, the file has %d pools instead of %d: %v\n%s", len(other.Pools), len(file.Pools), diags, again)
			}
		}
		for _, p := range file.Pools {
			if p.FillLevel < 0 || p.MaxNodes < max(1, p.FillLevel) || p.FillLevel > math.MaxInt32 || p.Concurrency < 1 ||
				p.CreateTimeout <= 0 || p.DestroyTimeout <= 0 || p.Ready.Timeout <= 0 || !filepath.IsAbs(p.Module) && !modulesource.Is(p.Module) {
				t.Fatalf("impossible pool %+v", p)
			}
			var vars map[string]json.RawMessage
			if err := json.Unmarshal(p.Variables, &vars); err != nil {
				t.Fatal(err)
			}
		}
	})
}
