package terraform

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/modules"
)

const treeModule = "variable \"broker\" {}\noutput \"ipaddr\" { value = \"127.0.0.1\" }\n"

// repository makes a git repository with treeModule in the directory vm, and gives
// its path and a function that runs git in it.
func repository(t *testing.T) (string, func(args ...string) string) {
	t.Helper()
	program := brokertest.NeedProgram(t, "git")
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(program, append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet")
	write(t, filepath.Join(dir, "vm", "main.tf"), treeModule)
	write(t, filepath.Join(dir, "vm", "files", "run.sh"), "true\n")
	if err := os.Chmod(filepath.Join(dir, "vm", "files", "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	git("add", ".")
	git("commit", "--quiet", "-m", "one")
	git("tag", "v1.0.0")
	return dir, git
}

// located gives a pool with its module located.
func located(t *testing.T, e *Engine, module string) broker.Pool {
	t.Helper()
	p := broker.Pool{Name: "a", Module: module}
	dir, err := e.Locate(t.Context(), p)
	if err != nil {
		t.Fatalf("%s: %v", module, err)
	}
	p.ModuleDir = dir
	return p
}

// inspected gives the generation of a pool's nodes.
func inspected(t *testing.T, p broker.Pool) string {
	t.Helper()
	source, _, err := new(Inspector).Inspect(p)
	if err != nil {
		t.Fatalf("%s: %v", p.Module, err)
	}
	return source.Generation
}

// A module of the program is the same as a checkout of it, tests or not.
func TestLocate_builtin(t *testing.T) {
	e := testEngine(t, "/nonexistent") // nothing is run
	for _, m := range modules.All() {
		checkout := filepath.Join(t.TempDir(), m.Name)
		if err := os.CopyFS(checkout, os.DirFS(filepath.Join("../../modules", m.Name))); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(checkout, "tests", "a.tftest.hcl"), "run \"a\" {}\n")
		write(t, filepath.Join(checkout, "b.tftest.hcl"), "run \"b\" {}\n")
		p := located(t, e, "builtin:"+m.Name)
		builtin, _ := hashTree(p.ModuleDir)
		directory, err := hashTree(checkout)
		if builtin != directory || err != nil {
			t.Errorf("%s: %s, and %s in a checkout: %v", m.Name, builtin, directory, err)
		}
		if m.Name == "local" && inspected(t, p) != inspected(t, broker.Pool{Name: "a", Module: checkout}) {
			t.Error("two generations")
		}
		before, err := os.Stat(p.ModuleDir)
		if err != nil {
			t.Fatal(err)
		}
		if again := located(t, e, "builtin:"+m.Name); again.ModuleDir != p.ModuleDir {
			t.Errorf("another time it is %s", again.ModuleDir)
		} else if after, err := os.Stat(p.ModuleDir); err != nil || !os.SameFile(before, after) {
			t.Errorf("written again: %v", err)
		}
	}
	if dir, err := e.Locate(t.Context(), broker.Pool{Module: "/srv/modules/x"}); dir != "" || err != nil {
		t.Errorf("a directory: %q, %v", dir, err)
	}
}

// What comes from elsewhere is fetched once, with what makes a directory the same
// module, and is there without its source.
func TestLocate_git(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	dir, git := repository(t)
	commit := git("rev-parse", "HEAD")
	same := inspected(t, broker.Pool{Name: "a", Module: filepath.Join(dir, "vm")})
	sources := []string{
		"git::file://" + dir + "//vm?ref=" + commit,
		"git::" + dir + "//vm?ref=v1.0.0",
	}
	var pools []broker.Pool
	for _, source := range sources {
		p := located(t, e, source)
		pools = append(pools, p)
		if got := inspected(t, p); got != same {
			t.Errorf("%s: %s, want %s", source, got, same)
		}
	}
	prepared, err := e.Prepare(t.Context(), pools[0])
	if err != nil || prepared.Generation != same {
		t.Errorf("prepared: %+v, %v", prepared, err)
	}

	// A later commit is another module, also where the tag has moved unseen.
	write(t, filepath.Join(dir, "vm", "main.tf"), treeModule+"# two\n")
	git("commit", "--quiet", "-a", "-m", "two")
	git("tag", "--force", "v1.0.0")
	if got := located(t, e, sources[1]); got.ModuleDir != pools[1].ModuleDir || inspected(t, got) != same {
		t.Errorf("fetched twice: %+v", got)
	}
	if got := inspected(t, located(t, e, "git::file://"+dir+"//vm?ref="+git("rev-parse", "HEAD"))); got == same {
		t.Error("another commit is the same module")
	}

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got := located(t, e, sources[0]); got.ModuleDir != pools[0].ModuleDir {
		t.Errorf("%+v", got)
	}
	// What no pool uses goes, and what was fetched half.
	write(t, filepath.Join(e.Trees().Dir, unfinishedPrefix+"1", "main.tf"), "")
	if err := e.PruneTrees(pools[:1]); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(e.Trees().Dir, "*"))
	if diff := cmp.Diff([]string{pools[0].ModuleDir}, left); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	hidden, err := filepath.Glob(filepath.Join(e.Trees().Dir, ".*"))
	if len(hidden) > 0 || err != nil {
		t.Errorf("left: %v, %v", hidden, err)
	}
}

func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		f, err := z.Create(name)
		if err == nil {
			_, err = f.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An archive is taken only if it is the one that was meant.
func TestLocate_archive(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	archive := zipped(t, map[string]string{"vm/main.tf": treeModule, "README": "x"})
	var served atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/modules.zip" {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodGet {
			served.Add(1)
		}
		_, _ = w.Write(archive)
	}))
	defer server.Close()
	directory := t.TempDir()
	write(t, filepath.Join(directory, "main.tf"), treeModule)
	source := func(sum [32]byte) string {
		return fmt.Sprintf("%s/modules.zip//vm?checksum=sha256:%x", server.URL, sum)
	}
	right := source(sha256.Sum256(archive))
	for range 2 {
		if got, want := inspected(t, located(t, e, right)), inspected(t, broker.Pool{Name: "a", Module: directory}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if served.Load() != 1 {
		t.Errorf("fetched %d times", served.Load())
	}
	_, err := e.Locate(t.Context(), broker.Pool{Name: "a", Module: source(sha256.Sum256([]byte("another")))})
	wantError(t, err, "Checksums did not match")
}

// A module of a registry is fetched in its one version.
func TestLocate_registry(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	archive := zipped(t, map[string]string{"main.tf": treeModule, "sub/main.tf": treeModule + "# sub\n"})
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("GET /v1/modules/acme/vm/aws/versions", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"modules": [{"versions": [{"version": "1.0.0"}, {"version": "1.1.0"}]}]}`))
	})
	mux.HandleFunc("GET /v1/modules/acme/vm/aws/1.0.0/download", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Terraform-Get", server.URL+"/vm.zip")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/vm.zip", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) })
	host := "registry.example.org"
	services, err := json.Marshal(server.URL + "/v1/modules/")
	if err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(t.TempDir(), "terraformrc")
	write(t, settings, fmt.Sprintf("host %q {\n  services = { \"modules.v1\" = %s }\n}\n", host, services))
	t.Setenv("TF_CLI_CONFIG_FILE", settings)
	for source, want := range map[string]string{
		host + "/acme/vm/aws?version=1.0.0":      treeModule,
		host + "/acme/vm/aws//sub?version=1.0.0": treeModule + "# sub\n",
	} {
		if got := read(t, filepath.Join(located(t, e, source).ModuleDir, "main.tf")); got != want {
			t.Errorf("%s: %s", source, got)
		}
	}
	_, err = e.Locate(t.Context(), broker.Pool{Name: "a", Module: host + "/acme/vm/aws?version=2.0.0"})
	wantError(t, err, "terraform get", "2.0.0")
}

// What can't be fetched leaves nothing, and Terraform's words say why.
func TestLocate_fails(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	dir, git := repository(t)
	commit := git("rev-parse", "HEAD")
	write(t, filepath.Join(dir, "bad", "main.tf"), "")
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "bad", "link")); err != nil {
		t.Fatal(err)
	}
	git("add", ".")
	git("commit", "--quiet", "-m", "two")
	for module, want := range map[string]string{
		"git::file://" + dir + "/gone?ref=" + commit:                   "fatal:",
		"git::file://" + dir + "//vm?ref=" + strings.Repeat("0", 40):   "terraform get",
		"git::file://" + dir + "//vm?ref=v9.9.9":                       "v9.9.9",
		"git::file://" + dir + "//no?ref=" + commit:                    "terraform get",
		"git::file://" + dir + "//vm/files?ref=" + commit:              "no .tf files",
		"git::file://" + dir + "//bad?ref=" + git("rev-parse", "HEAD"): "leads out of it",
	} {
		_, err := e.Locate(t.Context(), broker.Pool{Name: "a", Module: module})
		wantError(t, err, `pool "a": module `+module, want)
	}
	left, err := os.ReadDir(e.Trees().Dir)
	if len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A module that has not been fetched is no directory of that name.
func TestInspect_notFetched(t *testing.T) {
	_, _, err := new(Inspector).Inspect(broker.Pool{Name: "a", Module: "acme/vm/aws?version=1.0.0"})
	wantError(t, err, "has not been fetched")
	problems, _ := new(Checker).Check(broker.Pool{Name: "a", Module: "acme/vm/aws?version=1.0.0"})
	if len(problems) != 1 || problems[0].Summary != "Module not fetched" {
		t.Errorf("%+v", problems)
	}
}
