package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// repository is a git repository of pools in a directory ci/.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	brokertest.NeedProgram(t, "git")
	r := &repository{t, filepath.Join(t.TempDir(), "repository")}
	if err := os.MkdirAll(filepath.Join(r.dir, "ci", "module"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.git("init", "--quiet", "--initial-branch=main")
	r.write("ci/module/main.tf", "variable \"here\" {\n  type = string\n}\n"+plainModule)
	return r
}

const plainModule = `
variable "broker" { type = any }
resource "terraform_data" "node" { input = "127.0.0.1" }
output "ipaddr" { value = terraform_data.node.output }
`

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", r.dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repository) write(path, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, path), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// commit writes pools.hcl with a fill level, and gives the commit.
func (r *repository) commit(fill string) string {
	r.t.Helper()
	r.write("ci/pools.hcl", fmt.Sprintf("# A path that stays the same leaves nodes as they are.\nlocals {\n  here = path.root\n}\npool \"plain\" {\n  module = \"./module\"\n  contextualize = \"none\"\n  fill_level = %s\n  max_nodes = 9\n  variables = { here = local.here }\n}\n", fill))
	r.git("add", "-A")
	r.git("commit", "--quiet", "-m", "pools")
	return r.git("rev-parse", "HEAD")
}

// reloaded waits until the last reload is as wanted.
func (s *server) reloaded(by, problem, revision string) {
	s.t.Helper()
	s.eventually("a reload by "+by, time.Minute, func() error {
		var status struct {
			Reload struct{ By, Problem, Revision string }
		}
		req, err := http.NewRequest(http.MethodGet, s.url+"/api/v1/reload", http.NoBody)
		if err != nil {
			return err
		}
		req.SetBasicAuth("admin", s.profile.Tenants["admin"].APIKey)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		if err := json.NewDecoder(answer.Body).Decode(&status); err != nil {
			return err
		}
		got := status.Reload
		if got.By != by || got.Revision != revision || (problem == "") != (got.Problem == "") || !strings.Contains(got.Problem, problem) {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
}

// The broker follows a branch: by polling, by webhook and when asked. A commit
// with mistakes disturbs nothing. Without the repository it starts with what ran
// last.
func TestPoolsFromGit(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	first := r.commit("1")
	s := newServer(t, "")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.pools = "git::file://" + r.dir + "//ci/pools.hcl?ref=main"
	s.extra = []string{"--poll", "1s", "--webhook-secret-file", secret}
	s.start()
	s.reloaded("start", "", first)
	s.full(time.Minute)
	before := s.knownNodes()

	second := r.commit("2")
	s.reloaded("a commit", "", second)
	s.full(time.Minute)
	if got := len(s.knownNodes()); got != 2 {
		t.Errorf("%d nodes, want the 2 of the second commit", got)
	}
	for name := range before {
		if _, there := s.knownNodes()[name]; !there {
			t.Errorf("node %s was replaced by a commit that does not change it", name)
		}
	}
	r.commit(`"two"`)
	s.reloaded("a commit", `fill_level`, second)
	if target, err := os.Readlink(filepath.Join(s.data, "pools", "tree")); err != nil || target != "tree-"+second {
		t.Errorf("the path of the pools leads to %s, %v; want the commit that runs", target, err)
	}
	r.commit("3")
	s.full(time.Minute)
	s.stop()

	s.extra = []string{"--webhook-secret-file", secret}
	s.start()
	fourth := r.commit("1")
	req, err := http.NewRequest(http.MethodPost, s.url+"/api/v1/reload/webhook", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Gitlab-Token", "0123456789abcdef")
	answer, err := http.DefaultClient.Do(req)
	if err != nil || answer.StatusCode != http.StatusAccepted {
		t.Fatalf("webhook: %v, %v", answer, err)
	}
	_ = answer.Body.Close()
	s.reloaded("a webhook", "", fourth)

	fifth := r.commit("2")
	out, err := s.command(t.Context(), "reload", "--format", "flat").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("revision='"+fifth+"'")) {
		t.Errorf("duffy-broker reload: %v\n%s", err, out)
	}
	s.full(time.Minute)
	trees, err := filepath.Glob(filepath.Join(s.data, "pools", "tree-*"))
	if err != nil || len(trees) != 1 {
		t.Errorf("trees %v, %v; want that of the pools that run", trees, err)
	}
	s.stop()

	if err := os.Rename(r.dir, r.dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.logs("starting with the pools that ran last")
	s.reloaded("start", "", fifth)
	out, err = s.command(t.Context(), "reload").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("can't be read")) {
		t.Errorf("duffy-broker reload without the repository: %v\n%s", err, out)
	}
	s.full(time.Minute)
	s.stop()
}

// With --poll a change of a file or of a module is found, once it is all there.
func TestPoll(t *testing.T) {
	t.Parallel()
	s := newServer(t, plainPool(t, 1))
	s.extra = []string{"--poll", "1s"}
	s.start()
	s.full(time.Minute)
	s.writePools("pool \"plain\" {")
	s.reloaded("a change of the files", "mistakes", "")
	s.writePools(plainPool(t, 2))
	s.reloaded("a change of the files", "", "")
	s.full(time.Minute)
	before := s.knownNodes()
	module, err := filepath.Glob(filepath.Join(filepath.Dir(s.pools), "..", "*", "main.tf"))
	if err != nil || len(module) == 0 {
		t.Fatalf("modules %v, %v", module, err)
	}
	for _, path := range module {
		if err := os.WriteFile(path, []byte(plainModule+"\n# changed\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.eventually("all nodes are new", time.Minute, func() error {
		for name := range s.knownNodes() {
			if _, old := before[name]; old {
				return errors.New("an old one is there")
			}
		}
		return nil
	})
	s.full(time.Minute)
	s.stop()
}

func TestNewGitSource(t *testing.T) {
	brokertest.NeedProgram(t, "git")
	for source, want := range map[string]gitSource{
		"https://git.example.org/ci.git":                        {url: "https://git.example.org/ci.git"},
		"https://git.example.org/ci.git//pools.hcl?ref=main":    {url: "https://git.example.org/ci.git", path: "pools.hcl", ref: "main"},
		"ssh://git@git.example.org/ci.git//a/b?ref=v1.0":        {url: "ssh://git@git.example.org/ci.git", path: "a/b", ref: "v1.0"},
		"git@git.example.org:ci/pools.git//pools.hcl?ref=a%2Fb": {url: "git@git.example.org:ci/pools.git", path: "pools.hcl", ref: "a/b"},
	} {
		got, err := newGitSource(source, "dir")
		want.dir = "dir"
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v; want %+v", source, got, err, want)
		}
	}
	for _, source := range []string{"", "?ref=main", "https://e.org/a.git//../b", "https://e.org/a.git?depth=1", "--upload-pack=x", "https://e.org/a.git?ref=-x"} {
		if got, err := newGitSource(source, "dir"); err == nil {
			t.Errorf("%q is taken for %+v", source, got)
		}
	}
	secret, err := newGitSource("https://me:secret@git.example.org/ci.git", "dir")
	if err != nil || strings.Contains(secret.String(), "secret") {
		t.Errorf("%v shows a password, %v", secret, err)
	}
}
