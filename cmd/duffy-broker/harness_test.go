package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// binary is the real program, built once for all end-to-end tests.
var binary string

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"duffy-broker": main})
}

// suite builds the program before the tests run.
type suite struct{ m *testing.M }

func (s suite) Run() int {
	dir, err := os.MkdirTemp("", "duffy-broker-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "duffy-broker")
	build := []string{"build", "-o", binary}
	if raceEnabled {
		build = append(build, "-race")
	}
	if out, err := exec.Command("go", append(build, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return s.m.Run()
}

// server is one broker: a data directory, and the process on it, if it runs.
type server struct {
	t      testing.TB
	pools  string // path of pools.hcl
	data   string
	config string   // the user's configuration directory
	extra  []string // more arguments
	// environment are more variables.
	environment []string
	wrap        []string // a program that runs the program
	cmd         *exec.Cmd
	log         *lineBuffer
	out         *lineBuffer
	url         string
	profile     profile
}

// lineBuffer keeps what a process prints.
type lineBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lineBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// localPools is a pools.hcl on modules/local with two small pools.
func localPools(t testing.TB) string {
	t.Helper()
	module, err := filepath.Abs("../../modules/local")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
template "local" {
  module = %q
}
pool "small" {
  extends    = "local"
  fill_level = 3
  max_nodes  = 8
  variables  = { size = "small" }
}
pool "large" {
  extends    = "local"
  fill_level = 2
  max_nodes  = 5
  variables  = { size = "large" }
}
`, module)
}

// plainPool has nodes that are records only: what is left is the broker's own cost.
func plainPool(t testing.TB, fill int) string {
	t.Helper()
	dir := t.TempDir()
	module := `
variable "broker" { type = any }
resource "terraform_data" "node" { input = "127.0.0.1" }
output "ipaddr" { value = terraform_data.node.output }
`
	if err := os.WriteFile(dir+"/main.tf", []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
pool "plain" {
  module        = %q
  fill_level    = %d
  max_nodes     = %d
  concurrency   = 8
  contextualize = "none"
}
`, dir, fill, max(1, fill))
}

// newServer prepares a broker on a fresh directory; start runs it. Whatever is
// left at the end of the test, nodes too, is ended and reported.
func newServer(t testing.TB, poolsHCL string) *server {
	t.Helper()
	brokertest.NeedProgram(t, "terraform")
	dir := t.TempDir()
	s := &server{
		t: t, pools: filepath.Join(dir, "pools.hcl"), data: filepath.Join(dir, "data"), config: filepath.Join(dir, "config"),
	}
	s.writePools(poolsHCL)
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		s.sweepNodes()
		if t.Failed() && s.log != nil {
			t.Logf("the last broker's log:\n%s", tail(s.log.String(), 6000))
		}
	})
	return s
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

func (s *server) writePools(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.pools, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) env() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "XDG_CONFIG_HOME=") || strings.HasPrefix(v, "DUFFY_BROKER")
	})
	return append(append(env, "XDG_CONFIG_HOME="+s.config, "CHECKPOINT_DISABLE=1"), s.environment...)
}

// command is the program with this broker's client configuration.
func (s *server) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = s.env()
	return cmd
}

// start runs the broker until it serves.
func (s *server) start() {
	s.t.Helper()
	s.log, s.out = new(lineBuffer), new(lineBuffer)
	args := append([]string{"serve", "--pools", s.pools, "--data", s.data, "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug"}, s.extra...)
	if other := os.Getenv(brokertest.TerraformVariable); other != "" {
		args = append(args, "--terraform", other)
	}
	s.cmd = s.command(context.Background(), args...)
	if len(s.wrap) > 0 {
		s.cmd.Args = append(slices.Clone(s.wrap), s.cmd.Args...)
		s.cmd.Path = s.wrap[0]
	}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the broker serves", time.Minute, func() error {
		for line := range strings.Lines(s.log.String()) {
			var entry struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				s.url = "http://" + entry.Address
				return nil
			}
		}
		if s.exited() {
			return permanent{fmt.Errorf("it exited: %s", tail(s.log.String(), 2000))}
		}
		return errors.New("no such line in its log")
	})
	paths, err := filepath.Glob(filepath.Join(s.config, "duffy-broker", "*.yaml"))
	if err != nil || len(paths) != 1 {
		s.t.Fatalf("client profiles: %v, %v; want one", paths, err)
	}
	if s.profile, err = readProfile(paths[0]); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) exited() bool {
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WNOHANG, nil)
	return err != nil || pid != 0
}

// kill ends the broker the hard way.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// stop ends the broker the polite way.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the broker ended with %v: %s", err, tail(s.log.String(), 2000))
	}
	s.cmd = nil
}

type permanent struct{ error }

// eventually waits until check gives nil. It polls, since what it waits for
// happens in other processes.
func (s *server) eventually(what string, limit time.Duration, check func() error) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		var p permanent
		if errors.As(err, &p) || time.Now().After(deadline) {
			s.t.Fatalf("waited %v until %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// The answers of the API, as far as the tests look.
type (
	apiNode struct {
		ID       int64    `json:"id"`
		Hostname string   `json:"hostname"`
		Address  string   `json:"ipaddr"`
		Pool     string   `json:"pool"`
		State    string   `json:"state"`
		User     string   `json:"ssh_user"`
		Port     int      `json:"ssh_port"`
		HostKeys []string `json:"ssh_host_keys"`
		Failure  string   `json:"failure"` // admins see it
	}
	apiSession struct {
		ID        int64     `json:"id"`
		Active    bool      `json:"active"`
		ExpiresAt time.Time `json:"expires_at"`
		Nodes     []apiNode `json:"nodes"`
	}
	apiPool struct {
		Name   string         `json:"name"`
		Fill   int            `json:"fill-level"`
		Levels map[string]int `json:"levels"`
	}
	apiAnswer struct {
		Detail   string       `json:"detail"`
		Session  apiSession   `json:"session"`
		Sessions []apiSession `json:"sessions"`
		Nodes    []apiNode    `json:"nodes"`
		Pool     apiPool      `json:"pool"`
		Pools    []apiPool    `json:"pools"`
	}
)

// call makes one request as a tenant of the profile.
func (s *server) call(tenant, method, path string, body any) (int, apiAnswer, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, apiAnswer{}, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, s.url+"/api/v1"+path, in)
	if err != nil {
		return 0, apiAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(tenant, s.profile.Tenants[tenant].APIKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, apiAnswer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer apiAnswer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, apiAnswer{}, err
	}
	return resp.StatusCode, answer, nil
}

// must makes one request that has to give the status.
func (s *server) must(status int, tenant, method, path string, body any) apiAnswer {
	s.t.Helper()
	got, answer, err := s.call(tenant, method, path, body)
	if err != nil || got != status {
		s.t.Fatalf("%s %s: status %d, detail %q, error %v; want status %d", method, path, got, answer.Detail, err, status)
	}
	return answer
}

// full waits until every pool has its fill level of ready nodes and nothing is
// under way.
func (s *server) full(limit time.Duration) {
	s.t.Helper()
	s.eventually("all pools are full and at rest", limit, func() error {
		_, list, err := s.call("admin", "GET", "/pools", nil)
		if err != nil {
			return err
		}
		for _, p := range list.Pools {
			_, answer, err := s.call("admin", "GET", "/pools/"+p.Name, nil)
			if err != nil {
				return err
			}
			l := answer.Pool.Levels
			if l["ready"] != p.Fill || l["provisioning"]+l["deprovisioning"]+l["contextualizing"] != 0 {
				_, nodes, _ := s.call("admin", "GET", "/nodes?pool="+p.Name, nil)
				var stuck []string
				for _, n := range nodes.Nodes {
					if n.State != "ready" && n.State != "deployed" {
						stuck = append(stuck, fmt.Sprintf("node %d is %s: %s", n.ID, n.State, n.Failure))
					}
				}
				return fmt.Errorf("pool %s: fill level %d, levels %v\n%s\nprocesses %v", p.Name, p.Fill, l, strings.Join(stuck, "\n"), s.victims())
			}
		}
		_, nodes, err := s.call("admin", "GET", "/nodes", nil)
		for _, n := range nodes.Nodes {
			if n.State != "ready" && n.State != "deployed" && n.State != "unused" { // a free host
				return fmt.Errorf("node %d is %s", n.ID, n.State)
			}
		}
		return err
	})
}

// processes finds the processes of node servers of this broker, by node uid.
func (s *server) processes() map[string][]int {
	found := map[string][]int{}
	prefix := filepath.Join(s.data, "nodes") + string(filepath.Separator)
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range entries {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, after, ok := strings.Cut(string(text), prefix)
		if !ok || strings.HasPrefix(string(text), "terraform") {
			continue
		}
		uid := after
		if end := strings.IndexAny(after, "/\x00 "); end >= 0 {
			uid = after[:end]
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil {
			found[uid] = append(found[uid], pid)
		}
	}
	return found
}

// knownNodes gives the uids of the nodes in the store, by their default host names.
func (s *server) knownNodes() map[string]apiNode {
	s.t.Helper()
	known := map[string]apiNode{}
	for _, n := range s.must(200, "admin", "GET", "/nodes", nil).Nodes {
		known[strings.TrimPrefix(n.Hostname, "node-")] = n
	}
	return known
}

// noStrays checks the machine against the store: no server that the store does
// not know, and one for every node that it believes in.
func (s *server) noStrays() {
	s.t.Helper()
	known, running := s.knownNodes(), s.processes()
	for uid, pids := range running {
		if _, ok := known[uid]; !ok {
			s.t.Errorf("node server %s (processes %v) runs, and the store does not know it", uid, pids)
		}
	}
	for uid, n := range known {
		if len(running[uid]) == 0 {
			s.t.Errorf("node %d (%s, %s) is in the store, and no server of it runs", n.ID, uid, n.State)
		}
	}
}

// sweepNodes ends the node servers of this broker when a test is over.
func (s *server) sweepNodes() {
	for uid := range s.processes() {
		_ = s.command(context.Background(), "local-node", "stop", "--dir", filepath.Join(s.data, "nodes", uid)).Run()
	}
}
