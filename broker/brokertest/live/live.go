// Package live runs the real program for tests of modules: a broker on loopback
// with a data directory of its own, its API, and SSH to the nodes that it lends.
//
//	func TestMain(m *testing.M) { os.Exit(live.Main(m)) }
//
//	b := live.New(t, poolsHCL)
//	b.Env = append(b.Env, "TF_CLI_CONFIG_FILE="+providers.Config(t, "libvirt"))
//	b.Start()
//	b.Ready("pool", 1, 3*time.Minute)
//	s := b.Request("pool", 1)
//	out := b.SSH(s.Nodes[0], "uname -m")
//	b.Retire(s)
//	b.Drain(time.Minute)
package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// binary is the program, built once for the tests of a package.
var binary string //nolint:gochecknoglobals // set by Main alone

// Main builds the program and runs the tests.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "duffy-broker-live-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "duffy-broker")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", binary, "github.com/duffy-broker/duffy-broker/cmd/duffy-broker") //nolint:gosec // the program under test
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Binary gives the path of the program.
func Binary() string { return binary }

// Broker is one data directory, and the process on it, if it runs.
type Broker struct {
	URL  string   // after Start
	Data string   // the data directory
	Path string   // of pools.hcl
	Args []string // more arguments of serve
	Env  []string // more variables of its environment

	t       testing.TB
	dir     string
	cmd     *exec.Cmd
	ended   chan struct{}
	log     *lines
	profile profile
}

type profile struct {
	Tenants map[string]struct {
		APIKey string `yaml:"api_key"`
		SSHKey string `yaml:"ssh_key"`
	} `yaml:"tenants"`
}

// lines keeps what a process prints.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// New prepares a broker; [Broker.Start] runs it. At the end of the test it is ended
// the hard way: a test that leaves nothing behind calls [Broker.Drain] before.
func New(t testing.TB, pools string) *Broker {
	t.Helper()
	brokertest.NeedProgram(t, "terraform")
	dir := t.TempDir()
	b := &Broker{t: t, dir: dir, Path: filepath.Join(dir, "pools.hcl"), Data: filepath.Join(dir, "data"), log: new(lines)}
	b.WritePools(pools)
	t.Cleanup(func() {
		b.Kill()
		if t.Failed() {
			t.Logf("the broker's log:\n%s", tail(b.log.String(), 8000))
		}
	})
	return b
}

// tail gives the end of a text.
func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// WritePools replaces pools.hcl; [Broker.Reload] makes a running broker read it.
func (b *Broker) WritePools(text string) {
	b.t.Helper()
	if err := os.WriteFile(b.Path, []byte(text), 0o600); err != nil { //nolint:gosec // in the test's own directory
		b.t.Fatal(err)
	}
}

// Log gives what the broker has printed since it was last started.
func (b *Broker) Log() string { return b.log.String() }

// Command is the program, as a client of this broker.
func (b *Broker) Command(args ...string) *exec.Cmd {
	if binary == "" {
		b.t.Fatal("the package's TestMain does not call live.Main")
	}
	cmd := exec.CommandContext(context.Background(), binary, args...) //nolint:gosec // the program under test
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "XDG_CONFIG_HOME=") || strings.HasPrefix(v, "DUFFY_BROKER")
	})
	cmd.Env = append(append(cmd.Env, "XDG_CONFIG_HOME="+filepath.Join(b.dir, "config"), "CHECKPOINT_DISABLE=1"), b.Env...)
	return cmd
}

// Run runs a command of the program that has to succeed, and gives its output.
func (b *Broker) Run(args ...string) string {
	b.t.Helper()
	cmd := b.Command(args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("duffy-broker %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String()
}

// Start runs the broker until it serves.
func (b *Broker) Start() {
	b.t.Helper()
	b.Launch()
	serving := regexp.MustCompile(`"msg":"serving"[^\n]*"address":"([^"]+)"`)
	b.Eventually("the broker serves", 2*time.Minute, func() error {
		if found := serving.FindStringSubmatch(b.log.String()); found != nil {
			b.URL = "http://" + found[1]
			return nil
		}
		select {
		case <-b.ended:
			return Final(fmt.Errorf("it exited: %s", tail(b.log.String(), 4000)))
		default:
			return errors.New("no such line in its log")
		}
	})
	paths, err := filepath.Glob(filepath.Join(b.dir, "config", "duffy-broker", "*.yaml"))
	if err != nil || len(paths) != 1 {
		b.t.Fatalf("client profiles: %v, %v; want one", paths, err)
	}
	text, err := os.ReadFile(paths[0])
	if err == nil {
		err = yaml.Unmarshal(text, &b.profile)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// Launch runs the broker and does not wait: for one that is to refuse to start.
func (b *Broker) Launch() {
	b.t.Helper()
	b.log = new(lines)
	args := append([]string{"serve", "--pools", b.Path, "--data-dir", b.Data, "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug"}, b.Args...)
	if other := os.Getenv(brokertest.TerraformVariable); other != "" {
		args = append(args, "--terraform", other)
	}
	cmd := b.Command(args...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.cmd, b.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}(b.ended)
}

// Kill ends the broker the hard way, if it runs. Terraform runs in flight go on.
func (b *Broker) Kill() { b.end(syscall.SIGKILL) }

// Stop ends the broker the polite way.
func (b *Broker) Stop() { b.end(syscall.SIGTERM) }

func (b *Broker) end(sig syscall.Signal) {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(sig) // it may have ended
	<-b.ended
	b.cmd = nil
}

// Final makes [Broker.Eventually] give up at once.
func Final(err error) error { return final{err} }

type final struct{ error }

// Eventually waits until check gives nil. It polls: what it waits for happens in
// other processes.
func (b *Broker) Eventually(what string, limit time.Duration, check func() error) {
	b.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if _, over := errors.AsType[final](err); over || time.Now().After(deadline) {
			b.t.Fatalf("waited %v until %s: %v", limit, what, err)
		}
	}
}

// Node is what the API tells of one.
type Node struct {
	ID        int64           `json:"id"`
	Hostname  string          `json:"hostname"`
	Address   string          `json:"ipaddr"`
	Pool      string          `json:"pool"`
	State     string          `json:"state"`
	Condition string          `json:"condition"`
	User      string          `json:"ssh_user"`
	Port      int             `json:"ssh_port"`
	HostKeys  []string        `json:"ssh_host_keys"`
	Failure   string          `json:"failure"`
	Class     string          `json:"failure_class"`
	Variant   string          `json:"variant"`
	Data      json.RawMessage `json:"data"`
}

// UID is the node's random id, which tags and names in the cloud have, if its module
// keeps the default host name.
func (n Node) UID() string { return strings.TrimPrefix(n.Hostname, "node-") }

// Session is what the API tells of one.
type Session struct {
	ID    int64  `json:"id"`
	Nodes []Node `json:"nodes"`
}

// Call makes a request below /api/v1 as "admin" or as the tenant "demo", which the
// broker makes at its first start, decodes the answer into out, if that is not nil,
// and gives the status.
func (b *Broker) Call(tenant, method, path string, body, out any) int {
	b.t.Helper()
	status, err := b.call(tenant, method, path, body, out)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status
}

func (b *Broker) call(tenant, method, path string, body, out any) (int, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, b.URL+"/api/v1"+path, in)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(tenant, b.profile.Tenants[tenant].APIKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || out == nil {
		return resp.StatusCode, err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return resp.StatusCode, fmt.Errorf("status %d, answer %q: %w", resp.StatusCode, text, err)
	}
	return resp.StatusCode, nil
}

// Nodes gives the nodes of a pool that are not gone; "" for all pools.
func (b *Broker) Nodes(pool string) []Node {
	b.t.Helper()
	var answer struct{ Nodes []Node }
	path := "/nodes"
	if pool != "" {
		path += "?pool=" + pool
	}
	if status := b.Call("admin", http.MethodGet, path, nil, &answer); status != http.StatusOK {
		b.t.Fatalf("list nodes: status %d", status)
	}
	return answer.Nodes
}

// Ready waits until a pool has this many ready nodes, and gives them. A node that has
// failed ends the wait: see [Broker.Eventually] for tests that expect failures.
func (b *Broker) Ready(pool string, count int, limit time.Duration) []Node {
	b.t.Helper()
	var ready []Node
	b.Eventually(fmt.Sprintf("pool %s has %d ready nodes", pool, count), limit, func() error {
		ready = nil
		var states []string
		for _, n := range b.Nodes(pool) {
			if n.Failure != "" {
				return Final(fmt.Errorf("node %d has failed (%s): %s", n.ID, n.Class, n.Failure))
			}
			if n.State == "ready" {
				ready = append(ready, n)
			}
			states = append(states, n.State+"/"+n.Condition)
		}
		if len(ready) != count {
			return fmt.Errorf("its nodes are %v", states)
		}
		return nil
	})
	return ready
}

// Request gives a session of the tenant demo with nodes of one pool.
func (b *Broker) Request(pool string, count int) Session {
	b.t.Helper()
	var answer struct {
		Detail  string
		Session Session
	}
	body := map[string]any{"nodes_specs": []map[string]any{{"quantity": count, "pool": pool}}}
	if status := b.Call("demo", http.MethodPost, "/sessions", body, &answer); status != http.StatusCreated {
		b.t.Fatalf("request %d of pool %s: status %d, %s", count, pool, status, answer.Detail)
	}
	return answer.Session
}

// Retire ends a session.
func (b *Broker) Retire(s Session) {
	b.t.Helper()
	if status := b.Call("demo", http.MethodPut, fmt.Sprintf("/sessions/%d", s.ID), map[string]any{"active": false}, nil); status != http.StatusOK {
		b.t.Fatalf("retire session %d: status %d", s.ID, status)
	}
}

// Reload makes the broker read pools.hcl again, and waits until it has.
func (b *Broker) Reload() {
	b.t.Helper()
	b.Run("reload")
}

// Drain sets every fill level of pools.hcl to 0, reloads, and waits until there is
// no node any more (hosts of inventories stay).
func (b *Broker) Drain(limit time.Duration) {
	b.t.Helper()
	text, err := os.ReadFile(b.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.WritePools(regexp.MustCompile(`(?m)^(\s*fill_level\s*=\s*).*$`).ReplaceAllString(string(text), "${1}0"))
	b.Reload()
	b.Eventually("all nodes are gone", limit, func() error {
		var left []string
		for _, n := range b.Nodes("") {
			if n.State != "unused" {
				left = append(left, fmt.Sprintf("node %d of pool %s is %s/%s: %s", n.ID, n.Pool, n.State, n.Condition, n.Failure))
			}
		}
		if len(left) > 0 {
			return errors.New(strings.Join(left, "; "))
		}
		return nil
	})
}

// SSH runs a command on a lent node as the tenant demo, and gives its output. No
// host key is accepted but those that the session names.
func (b *Broker) SSH(n Node, command string) string {
	b.t.Helper()
	out, err := b.TrySSH(n, command)
	if err != nil {
		b.t.Fatalf("ssh to node %d (%s port %d): %s: %v\n%s", n.ID, n.Address, n.Port, command, err, out)
	}
	return out
}

// TrySSH is [Broker.SSH] that may fail.
func (b *Broker) TrySSH(n Node, command string) (string, error) {
	b.t.Helper()
	key, err := os.ReadFile(b.profile.Tenants["demo"].SSHKey)
	if err != nil {
		b.t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	config := &ssh.ClientConfig{
		User: n.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: time.Minute,
		HostKeyCallback: func(_ string, _ net.Addr, shown ssh.PublicKey) error {
			line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(shown)))
			if !slices.Contains(n.HostKeys, line) {
				return fmt.Errorf("the node shows %q, and the session names %q", line, n.HostKeys)
			}
			return nil
		},
	}
	for _, line := range n.HostKeys {
		config.HostKeyAlgorithms = append(config.HostKeyAlgorithms, strings.Fields(line)[0])
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort(n.Address, strconv.Itoa(n.Port)), config)
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.CombinedOutput(command)
	return string(out), err
}
