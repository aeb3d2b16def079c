package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// The example of a repository of pools does what its README says: a plan on a
// change, one comment on the pull request, and after the merge a broker that does
// it and is waited for.
func TestPullRequestExample(t *testing.T) {
	t.Parallel()
	brokertest.NeedProgram(t, "python3")
	r := newRepository(t)
	if err := os.RemoveAll(filepath.Join(r.dir, "ci")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(r.dir, os.DirFS("../../examples/pull-request")); err != nil {
		t.Fatal(err)
	}
	commit := func() string {
		r.git("add", "-A", "--", "pools.hcl", "modules", "ci")
		r.git("commit", "--quiet", "-m", "pools")
		return r.git("rev-parse", "HEAD")
	}
	edit := func(old, replacement string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(r.dir, "pools.hcl"))
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("%s is not in pools.hcl: %v", old, err)
		}
		r.write("pools.hcl", strings.Replace(string(text), old, replacement, 1))
	}
	commit()
	s := newServer(t, "")
	s.pools = "git::file://" + r.dir + "//pools.hcl?ref=main"
	bin := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(bin, "duffy-broker")); err != nil {
		t.Fatal(err)
	}
	run := func(code int, script string, args []string, env ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(r.dir, "ci", script), args...)
		cmd.Env = append(append(s.env(), "PATH="+bin+":"+os.Getenv("PATH")), env...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("%s %v: exit %d, want %d\n%s", script, args, got, code, out)
		}
		return string(out)
	}

	s.start()
	s.full(2 * time.Minute)
	r.git("switch", "--quiet", "-c", "work")
	edit("max_nodes  = 10", "max_nodes  = 60")
	if out := run(3, "plan.sh", []string{"main"}); !strings.Contains(out, "may have 60 nodes") {
		t.Errorf("a change that the policy denies: %s", out)
	}
	edit("max_nodes  = 60", "max_nodes  = 10")
	edit(`["9s", "10s"]`, `["9s"]`)
	edit("variables   = each.value", "variables   = merge(each.value, { arch = upper(each.value.arch) })")
	run(0, "plan.sh", []string{"main"})

	for name, host := range map[string]*commentHost{"GitHub": {update: http.MethodPatch}, "GitLab": {update: http.MethodPut}} {
		server := httptest.NewServer(host)
		env := []string{"GITHUB_API_URL=" + server.URL, "GITHUB_REPOSITORY=ci/pools", "GITHUB_TOKEN=secret", "PULL_REQUEST=7"}
		if name == "GitLab" {
			env = []string{"CI_API_V4_URL=" + server.URL, "CI_PROJECT_ID=1", "CI_MERGE_REQUEST_IID=7", "GITLAB_TOKEN=secret"}
		}
		for range 2 {
			run(0, "comment.py", []string{filepath.Join(r.dir, "plan.md")}, env...)
		}
		server.Close()
		if len(host.comments) != 151 || host.updates != 1 || !strings.Contains(host.comments[150], "centos-10s-aarch64") {
			t.Errorf("%s: %d comments, %d updates; want one more than 150, written twice:\n%s", name, len(host.comments), host.updates, host.comments[len(host.comments)-1])
		}
	}

	merged := commit()
	r.git("switch", "--quiet", "main")
	r.git("merge", "--quiet", "--ff-only", "work")
	out := run(0, "apply.sh", nil)
	if !strings.Contains(out, "pool centos-9s-x86_64: 2 of 2 stale nodes replaced") {
		t.Errorf("apply: %s", out)
	}
	s.full(time.Minute)
	s.reloaded("tenant admin", "", merged)
	if out := run(0, "apply.sh", nil); !strings.Contains(out, "runs with this already") {
		t.Errorf("once more: %s", out)
	}
	s.stop()

	for _, file := range []string{".github/workflows/pools.yml", ".gitlab-ci.yml"} {
		text, err := os.ReadFile(filepath.Join(r.dir, file))
		var parsed map[string]any
		if err == nil {
			err = yaml.Unmarshal(text, &parsed)
		}
		if err != nil || !strings.Contains(string(text), "ci/plan.sh") || !strings.Contains(string(text), "ci/apply.sh") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// commentHost holds the comments of a pull request: 150 of others at first.
type commentHost struct {
	update  string // the method that changes one
	updates int

	mu       sync.Mutex
	comments []string
}

func (h *commentHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer secret" && r.Header.Get("Private-Token") != "secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	for len(h.comments) < 150 {
		h.comments = append(h.comments, "well")
	}
	type comment struct {
		ID   int    `json:"id"`
		Body string `json:"body"`
	}
	var sent comment
	switch r.Method {
	case http.MethodGet:
		var page, size int
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		_, _ = fmt.Sscan(r.URL.Query().Get("per_page"), &size)
		list := []comment{}
		for i := (page - 1) * size; i < min(page*size, len(h.comments)); i++ {
			list = append(list, comment{i, h.comments[i]})
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	case http.MethodPost:
		_ = json.NewDecoder(r.Body).Decode(&sent)
		h.comments = append(h.comments, sent.Body)
	case h.update:
		var id int
		_, _ = fmt.Sscan(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], &id)
		_ = json.NewDecoder(r.Body).Decode(&sent)
		h.comments[id] = sent.Body
		h.updates++
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	_, _ = w.Write([]byte("{}"))
}

// The pools of CentOS CI are one file that validate takes, and of which plan knows
// all there is to say without a broker.
func TestCentOSPoolsExample(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.git("add", "-A")
	r.git("commit", "--quiet", "--allow-empty", "-m", "before")
	if err := os.CopyFS(filepath.Join(r.dir, "ci"), os.DirFS("../../examples/pools")); err != nil {
		t.Fatal(err)
	}
	pools := filepath.Join(r.dir, "ci", "centos-ci.hcl")
	text, err := os.ReadFile(pools)
	if err != nil {
		t.Fatal(err)
	}
	r.write("ci/centos-ci.hcl", "pool \"first\" {\n  module     = \"builtin:local\"\n  fill_level = 0\n}\n")
	r.git("add", "-A")
	r.git("commit", "--quiet", "-m", "a pool")
	r.write("ci/centos-ci.hcl", string(text))

	validate := exec.CommandContext(t.Context(), binary, "validate", "--pools", pools)
	if out, err := validate.CombinedOutput(); err != nil || !strings.Contains(string(out), "8 pools") {
		t.Errorf("validate: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, "plan", "--pools", pools, "--base", "HEAD", "--format", "json")
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != exitChanges {
		t.Fatalf("plan: %v, exit %d, want %d\n%s", err, code, exitChanges, out)
	}
	var plan struct {
		Pools []struct{ Name, Kind string }
	}
	if err := json.Unmarshal(out, &plan); err != nil {
		t.Fatal(err)
	}
	var added []string
	for _, p := range plan.Pools {
		if p.Kind == "added" {
			added = append(added, p.Name)
		}
	}
	for _, name := range []string{
		"virt-ec2-t2-centos-9s-x86_64", "virt-ec2-c6g-centos-10s-aarch64", "metal-ec2-c5n-centos-9s-x86_64",
		"virt-openstack-centos-9s-ppc64le", "metal-seamicro-small-centos-9s-x86_64",
	} {
		if !slices.Contains(added, name) {
			t.Errorf("the plan does not add pool %s, but %v", name, added)
		}
	}
}
