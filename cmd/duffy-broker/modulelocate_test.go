package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// checkoutOfLocal copies modules/local, as who has a checkout has it.
func checkoutOfLocal(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(dir, "modules", "local"), os.DirFS("../../modules/local")); err != nil {
		t.Fatal(err)
	}
}

func (s *server) trees() []string {
	s.t.Helper()
	trees, err := filepath.Glob(filepath.Join(s.data, "modules", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range trees {
		trees[i] = filepath.Base(trees[i])
	}
	return trees
}

// A module of the program works without a checkout, and is the same module as one.
func TestBuiltinModule(t *testing.T) {
	t.Parallel()
	pools := func(module string) string {
		return fmt.Sprintf("pool \"small\" {\n  module     = %q\n  fill_level = 2\n  variables  = { size = \"small\" }\n}\n", module)
	}
	s := newServer(t, pools("./modules/local"))
	checkoutOfLocal(t, filepath.Dir(s.pools))
	s.environment = []string{"TMPDIR=" + t.TempDir()}
	s.start()
	s.full(2 * time.Minute)
	before := s.lastEvent()

	s.writePools(pools("builtin:local"))
	for _, args := range [][]string{{"--server"}, {"--server", "--sample"}} {
		p, code, errOut := s.plan(append(args, "--pools", s.pools)...)
		if code != 2 || len(p.Pools) != 1 || p.Pools[0].Generation != nil || len(p.Pools[0].Fields) != 1 || string(p.Pools[0].Fields[0].Old) != `"./modules/local"` {
			t.Errorf("%v: exit %d: %+v\n%s", args, code, p.Pools, errOut)
		}
	}
	s.reload()
	s.logs("pools reloaded")
	s.full(time.Minute)
	s.stop()
	if p, code, errOut := s.plan("--data-dir", s.data, "--pools", s.pools); code != 0 {
		t.Errorf("plan of what runs: exit %d: %+v\n%s", code, p.Pools, errOut)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(s.pools), "modules")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.full(time.Minute)
	if steps := s.stepsSince(before); len(steps) > 0 {
		t.Errorf("nodes were replaced: %q", steps)
	}
	if trees := s.trees(); len(trees) != 1 || !strings.HasPrefix(trees[0], "builtin-local-") {
		t.Errorf("trees %q", trees)
	}
	s.noStrays()

	// With the module's last pool its files go, at the next start.
	s.writePools(plainPool(t, 1))
	s.reload()
	s.full(time.Minute)
	s.stop()
	s.start()
	if trees := s.trees(); len(trees) > 0 {
		t.Errorf("trees %q", trees)
	}
	s.stop()
	tmp := strings.TrimPrefix(s.environment[0], "TMPDIR=")
	left, err := os.ReadDir(tmp)
	if len(left) > 0 || err != nil {
		t.Errorf("left in %s: %v, %v", tmp, left, err)
	}
}

// Without a broker, a module of the program can be validated and compared with a
// checkout of it in git; nothing is left behind.
func TestBuiltinModule_withoutBroker(t *testing.T) {
	noSettings(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	const path = "pool \"a\" {\n  module = \"./modules/local\"\n}\n"
	files := map[string]string{"pools.hcl": path}
	for _, name := range []string{"main.tf", "variables.tf", "outputs.tf", "README.md"} {
		text, err := os.ReadFile(filepath.Join("../../modules/local", name))
		if err != nil {
			t.Fatal(err)
		}
		files["modules/local/"+name] = string(text)
	}
	dir := gitRepository(t, files)
	t.Chdir(dir)
	writeFile(t, "pools.hcl", strings.Replace(path, "./modules/local", "builtin:local", 1))
	if code, out, errOut := command(t, "validate"); code != 0 || strings.Contains(out, "arning") {
		t.Errorf("validate: exit %d: %s%s", code, out, errOut)
	}
	if code, out, errOut := command(t, "plan"); code != 2 || !strings.Contains(out, `"builtin:local"`) || strings.Contains(out, "stale") {
		t.Errorf("plan: exit %d: %s%s", code, out, errOut)
	}
	if code, out, errOut := command(t, "fmt", "--check"); code != 0 {
		t.Errorf("fmt: exit %d: %s%s", code, out, errOut)
	}
	writeFile(t, "pools.hcl", "pool \"a\" {\n  module    = \"builtin:local\"\n  variables = { sise = 1 }\n}\n")
	if code, out, errOut := command(t, "validate"); code != 1 || !strings.Contains(errOut, "Module builtin:local") || !strings.Contains(errOut, `"size"?`) {
		t.Errorf("validate: exit %d: %s%s", code, out, errOut)
	}
	left, err := os.ReadDir(tmp)
	left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), "duffy-") })
	if len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A module from elsewhere that can't be fetched leaves the running pools alone, and
// one that was fetched needs its source no more.
func TestFetchedModule(t *testing.T) {
	t.Parallel()
	brokertest.NeedProgram(t, "git")
	repository := gitRepository(t, map[string]string{"vm/main.tf": planModule})
	commit, err := checkout{dir: repository}.commit(t.Context(), "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	pools := func(ref string) string {
		return fmt.Sprintf("pool \"a\" {\n  module        = \"git::file://%s//vm?ref=%s\"\n  contextualize = \"none\"\n  fill_level    = 1\n}\n", repository, ref)
	}
	s := newServer(t, pools(commit))
	if out, err := s.command(t.Context(), "validate", s.pools).CombinedOutput(); err != nil || !strings.Contains(string(out), "Module not looked at") {
		t.Errorf("validate: %v\n%s", err, out)
	}
	s.start()
	s.full(time.Minute)
	if out, err := s.command(t.Context(), "validate", s.pools, "--data-dir", s.data).CombinedOutput(); err != nil || strings.Contains(string(out), "Module not looked at") {
		t.Errorf("validate with the data directory: %v\n%s", err, out)
	}
	if p, code, errOut := s.plan("--server", "--pools", s.pools); code != 0 {
		t.Errorf("plan fetches: exit %d: %+v\n%s", code, p, errOut)
	}
	before := s.lastEvent()
	s.writePools(pools("v9.9.9"))
	if _, code, errOut := s.plan("--server", "--pools", s.pools); code != 1 || !strings.Contains(errOut, "Module that can't be fetched") || !strings.Contains(errOut, "pools.hcl line 2") {
		t.Errorf("plan of what can't be fetched: exit %d: %s", code, errOut)
	}
	s.reload()
	s.logs("pools are left as they were")
	if log := s.log.String(); !strings.Contains(log, "terraform get") || !strings.Contains(log, "v9.9.9") {
		t.Error("the log does not say what Terraform says")
	}
	s.full(time.Minute)
	s.stop()
	s.writePools(pools(commit))
	if err := os.RemoveAll(repository); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.full(time.Minute)
	if steps := s.stepsSince(before); len(steps) > 0 {
		t.Errorf("nodes were replaced: %q", steps)
	}
	s.stop()
	if p, code, errOut := s.plan("--data-dir", s.data, "--pools", s.pools); code != 0 {
		t.Errorf("plan with the data directory: exit %d: %+v\n%s", code, p, errOut)
	}
}
