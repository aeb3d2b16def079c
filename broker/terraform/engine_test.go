package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// The tests in this file run the real Terraform.

const password = "correct-horse-battery"

// nodeModule makes a directory, tells when it began to, and then waits for a
// file named "go" in the directory "gates", where that exists.
const nodeModule = `
variable "broker" {
  type = object({ id = string, node_id = string, pool = string, hostname = string, directory = string,
    tags = map(string), ssh_public_keys = list(string) })
}
variable "gates" {
  type    = string
  default = "/nonexistent"
}
variable "note" {
  default = ""
}
resource "terraform_data" "node" {
  input = { dir = var.broker.directory, gates = var.gates }
  provisioner "local-exec" {
    command     = "mkdir -p \"$DIR\" && echo create >> \"$DIR/log\"; if test -d \"$GATES\"; then touch \"$GATES/create-began\"; while ! test -e \"$GATES/create-go\"; do sleep 0.02; done; fi"
    environment = { DIR = self.input.dir, GATES = self.input.gates }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "if test -d \"$GATES\"; then echo destroy >> \"$GATES/log\"; touch \"$GATES/destroy-began\"; while ! test -e \"$GATES/destroy-go\"; do sleep 0.02; done; fi; rm -rf \"$DIR\""
    environment = { DIR = self.output.dir, GATES = self.output.gates }
  }
}
output "ipaddr" { value = "127.0.0.9" }
output "hostname" { value = var.broker.hostname }
output "ssh_user" { value = "root" }
output "ssh_port" { value = 2222 }
output "ssh_host_keys" { value = ["ssh-ed25519 AAAA"] }
output "data" { value = { broker = var.broker, note = var.note } }
output "password" {
  value     = "` + password + `"
  sensitive = true
}
`

func modulePool(t *testing.T, module string, variables map[string]any) broker.Pool {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.tf"), module)
	raw, err := json.Marshal(variables)
	if err != nil {
		t.Fatal(err)
	}
	return broker.Pool{Name: "small", Module: dir, Variables: raw, CreateTimeout: time.Hour, DestroyTimeout: time.Hour}
}

func prepared(t *testing.T, e *Engine, p broker.Pool) broker.Pool {
	t.Helper()
	source, err := e.Prepare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	p.Source = source
	return p
}

func apply(t *testing.T, e *Engine, n broker.Node) broker.Result {
	t.Helper()
	result, err := e.Apply(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.State) == 0 {
		t.Fatal("Apply gave no state")
	}
	return result
}

func destroy(t *testing.T, e *Engine, n broker.Node, sealed []byte) {
	t.Helper()
	result, err := e.Destroy(t.Context(), n, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if result.State != nil {
		t.Error("Destroy left a state")
	}
	if dir := filepath.Join(e.nodesDir(), n.UID); exists(dir) {
		t.Errorf("Destroy left %s", dir)
	}
}

func discard(t *testing.T, e *Engine, n broker.Node) {
	t.Helper()
	if err := e.Discard(n); err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfANode(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := prepared(t, e, modulePool(t, nodeModule, map[string]any{"note": "a ${literal} & <note>"}))
	n := broker.NewNode(p, time.Now())

	result := apply(t, e, n)
	var data any
	if err := json.Unmarshal(result.Outputs.Data, &data); err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(e.Dir, "nodes", n.UID)
	wantData := map[string]any{
		"note": "a ${literal} & <note>",
		"broker": map[string]any{
			"id": "broker-1", "node_id": n.UID, "pool": "small", "hostname": "node-" + n.UID, "directory": directory,
			"ssh_public_keys": []any{"ssh-ed25519 AAAA test"},
			"tags":            map[string]any{"duffy:broker-id": "broker-1", "duffy:node-id": n.UID, "duffy:pool": "small"},
		},
	}
	if diff := cmp.Diff(wantData, data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	result.Outputs.Data = nil
	want := broker.Outputs{
		Address: "127.0.0.9", Hostname: "node-" + n.UID, SSHUser: "root", SSHPort: 2222,
		HostKeys: []string{"ssh-ed25519 AAAA"},
	}
	if diff := cmp.Diff(want, result.Outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if bytes.Contains(result.State, []byte(password)) {
		t.Error("the state is not sealed")
	}

	if len(filesWith(t, e.Dir, password)) == 0 {
		t.Fatal("the password is nowhere: this test can't tell whether it goes")
	}
	discard(t, e, n)
	discard(t, e, n)
	// The module's text has it too, in this test.
	for _, file := range filesWith(t, e.Dir, password) {
		if filepath.Base(file) != "main.tf" {
			t.Errorf("a sensitive output is readable in %s", file)
		}
	}

	// The module has gone meanwhile.
	if err := os.RemoveAll(p.Module); err != nil {
		t.Fatal(err)
	}
	destroy(t, e, n, result.State)
	discard(t, e, n)
	if left, err := os.ReadDir(e.runsDir()); err != nil || len(left) > 0 {
		t.Errorf("run directories %v, %v, want none", left, err)
	}
}

func TestApplyAgainGivesTheSameResult(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	n := broker.NewNode(prepared(t, e, modulePool(t, nodeModule, nil)), time.Now())
	first := apply(t, e, n)
	for _, again := range []*Engine{e, engineIn(t, e.Dir, e.Binary.Path)} { // this process, the next one
		second := apply(t, again, n)
		if diff := cmp.Diff(first.Outputs, second.Outputs); diff != "" {
			t.Errorf("outputs (-first +second):\n%s", diff)
		}
	}
	if got := read(t, filepath.Join(e.nodesDir(), n.UID, "log")); got != "create\n" {
		t.Errorf("the node's log is %q, want one create", got)
	}
	destroy(t, e, n, first.State)
	destroy(t, e, n, first.State) // a crash before the commit repeats it
	destroy(t, engineIn(t, e.Dir, e.Binary.Path), n, first.State)
}

func TestEndOfContextLeavesTheRunAlive(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	gates := t.TempDir()
	n := broker.NewNode(prepared(t, e, modulePool(t, nodeModule, map[string]any{"gates": gates})), time.Now())

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for !exists(filepath.Join(gates, "create-began")) && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := e.Apply(ctx, n); !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply: %v, want %v", err, context.Canceled)
	}
	if _, err := e.Destroy(ctx, n, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Destroy with an ended context: %v, want %v", err, context.Canceled)
	}
	if err := e.Discard(n); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("Discard of a live run: %v, want %s", err, broker.CodeConflict)
	}

	// One engine has started it, the other one has not: both wait for it.
	var wg sync.WaitGroup
	for _, e := range []*Engine{e, engineIn(t, e.Dir, e.Binary.Path)} {
		wg.Go(func() {
			if result, err := e.Apply(t.Context(), n); err != nil || result.Outputs.Address != "127.0.0.9" {
				t.Errorf("second Apply: %+v, %v", result.Outputs, err)
			}
		})
	}
	write(t, filepath.Join(gates, "create-go"), "")
	wg.Wait()
	if got := read(t, filepath.Join(e.nodesDir(), n.UID, "log")); got != "create\n" {
		t.Errorf("the node's log is %q, want one create", got)
	}
	write(t, filepath.Join(gates, "destroy-go"), "")
	destroy(t, e, n, nil) // from the state in the run directory
}

func TestKilledParent(t *testing.T) {
	binary := brokertest.NeedProgram(t, "terraform")
	for _, operation := range []string{opApply, opDestroy} {
		t.Run(operation, func(t *testing.T) {
			e := testEngine(t, binary)
			gates := t.TempDir()
			n := broker.NewNode(prepared(t, e, modulePool(t, nodeModule, map[string]any{"gates": gates})), time.Now())
			var sealed []byte
			if operation == opDestroy {
				write(t, filepath.Join(gates, "create-go"), "")
				sealed = apply(t, e, n).State
				discard(t, e, n)
			}

			text, err := json.Marshal(job{Binary: e.Binary, Dir: e.Dir, Keys: filepath.Join(e.Dir, "keys"), Operation: operation, Node: n, Sealed: sealed})
			if err != nil {
				t.Fatal(err)
			}
			parent := exec.Command(os.Args[0])
			parent.Env = append(os.Environ(), parentJob+"="+string(text))
			parent.Stderr = testWriter{t}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			name := map[string]string{opApply: "create", opDestroy: "destroy"}[operation]
			waitForFile(t, filepath.Join(gates, name+"-began"))
			if err := parent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = parent.Wait()
			r, err := e.run(n, operation)
			if err != nil {
				t.Fatal(err)
			}
			if alive, err := r.alive(); err != nil || !alive {
				t.Fatalf("the run is gone with its parent: %t, %v", alive, err)
			}
			if findProcess(t.Context(), "-var-file="+r.variables()) == nil {
				t.Error("the run's process is not found")
			}

			write(t, filepath.Join(gates, name+"-go"), "")
			if operation == opApply {
				result := apply(t, e, n)
				if result.Outputs.SSHPort != 2222 || result.Outputs.Hostname != "node-"+n.UID {
					t.Errorf("outputs of the adopted run: %+v", result.Outputs)
				}
				if got := read(t, filepath.Join(e.nodesDir(), n.UID, "log")); got != "create\n" {
					t.Errorf("the node's log is %q, want one create", got)
				}
				write(t, filepath.Join(gates, "destroy-go"), "")
				sealed = result.State
			}
			destroy(t, e, n, sealed)
			if got := read(t, filepath.Join(gates, "log")); got != "destroy\n" {
				t.Errorf("the log of destroys is %q, want one", got)
			}
		})
	}
}

func TestKilledTerraform(t *testing.T) {
	binary := brokertest.NeedProgram(t, "terraform")
	var swept []string
	var logged bytes.Buffer
	e := testEngine(t, binary, func(c *Config) {
		c.Log = logTo(&logged)
		c.Sweep = func(_ context.Context, dir string) error {
			swept = append(swept, dir)
			return nil
		}
	})
	gates := t.TempDir()
	n := broker.NewNode(prepared(t, e, modulePool(t, nodeModule, map[string]any{"gates": gates})), time.Now())

	done := make(chan error)
	go func() {
		result, err := e.Apply(t.Context(), n)
		if result.State != nil {
			err = errors.Join(err, errors.New("there is a state"))
		}
		done <- err
	}()
	waitForFile(t, filepath.Join(gates, "create-began"))
	r, _ := e.run(n, opApply)
	if err := findProcess(t.Context(), "-var-file="+r.variables()).Kill(); err != nil {
		t.Fatal(err)
	}
	err := <-done
	wantError(t, err, "terraform apply of node "+n.UID, "run was interrupted", "signal: killed",
		"something may be left", "terraform_data.node")
	if strings.Contains(err.Error(), "there is a state") {
		t.Errorf("Apply gave a state: %v", err)
	}
	// Asked again, it is not run again.
	_, err = engineIn(t, e.Dir, binary).Apply(t.Context(), n)
	wantError(t, err, "run was interrupted")

	// The provisioner's shell was killed with it, or else the test does not end.
	destroy(t, e, n, nil)
	if diff := cmp.Diff([]string{filepath.Join(e.nodesDir(), n.UID)}, swept); diff != "" {
		t.Errorf("swept (-want +got):\n%s", diff)
	}
	if !strings.Contains(logged.String(), "level=ERROR") || !strings.Contains(logged.String(), n.UID) {
		t.Errorf("nothing was logged of what may be left:\n%s", logged.String())
	}
}

func TestTimeoutInterruptsOnce(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	gates := t.TempDir()
	p := prepared(t, e, modulePool(t, nodeModule, map[string]any{"gates": gates}))
	n := broker.NewNode(p, time.Now())

	// However slow the machine: it is in the middle of the create when its time
	// is up.
	ctx, cancel := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := e.Apply(ctx, n); !errors.Is(err, context.Canceled) {
			t.Errorf("Apply: %v, want %v", err, context.Canceled)
		}
	})
	waitForFile(t, filepath.Join(gates, "create-began"))
	cancel()
	first.Wait()
	n.CreateTimeout = time.Millisecond
	result, err := e.Apply(t.Context(), n)
	wantError(t, err, "took longer than 1ms and was interrupted")
	if result.State == nil {
		t.Fatal("there is no state of what was being made")
	}
	s, err := e.unseal(n, result.State)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(s.raw), `"tainted"`) {
		t.Errorf("the resource is not tainted:\n%s", s.raw)
	}
	write(t, filepath.Join(gates, "destroy-go"), "")
	destroy(t, e, n, result.State)
}

// What a module starts in a session of its own lives on after the run, and is not
// taken for a part of it.
func TestServersLiveOn(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	n := broker.NewNode(prepared(t, e, modulePool(t, `
variable "broker" { type = object({ directory = string }) }
resource "terraform_data" "server" {
  input = var.broker.directory
  provisioner "local-exec" {
    command = <<-EOT
      mkdir -p ${self.input}
      setsid sh -c 'echo $$ > ${self.input}/pid; exec sleep 1000' < /dev/null > /dev/null 2>&1 &
      while ! test -s ${self.input}/pid; do sleep 0.02; done
    EOT
  }
  provisioner "local-exec" {
    when    = destroy
    command = "kill $(cat ${self.output}/pid); rm -r ${self.output}"
  }
}
output "ipaddr" { value = "127.0.0.1" }
`, nil)), time.Now())
	result := apply(t, e, n)
	apply(t, engineIn(t, e.Dir, e.Binary.Path), n) // sees that the run has ended
	pid := 0
	if _, err := fmt.Sscan(read(t, filepath.Join(e.nodesDir(), n.UID, "pid")), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the server is gone: %v", err)
	}
	destroy(t, e, n, result.State)
	waitFor(t, "the end of the server", func() bool { return !hasArgument(pid, "sleep") })
}

func TestManyNodesAtOnce(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := prepared(t, e, modulePool(t, nodeModule, nil))
	addresses := make(chan string, 20)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			n := broker.NewNode(p, time.Now())
			result, err := e.Apply(t.Context(), n)
			if err != nil {
				t.Error(err)
				return
			}
			addresses <- result.Outputs.Hostname
			if err := e.Discard(n); err != nil {
				t.Error(err)
			}
			if _, err := e.Destroy(t.Context(), n, result.State); err != nil {
				t.Error(err)
			}
			if err := e.Discard(n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(addresses)
	seen := map[string]bool{}
	for a := range addresses {
		seen[a] = true
	}
	if len(seen) != 20 {
		t.Errorf("20 nodes have %d host names", len(seen))
	}
	entries, _ := os.ReadDir(e.nodesDir())
	if len(entries) > 0 || len(e.processes) > 0 {
		t.Errorf("left: %v, %v", entries, e.processes)
	}
}

func TestFailedCreateSaysWhy(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	n := broker.NewNode(prepared(t, e, modulePool(t, `
variable "broker" {}
resource "terraform_data" "good" {}
resource "terraform_data" "bad" {
  depends_on = [terraform_data.good]
  provisioner "local-exec" { command = "echo no room left; exit 3" }
}
output "ipaddr" { value = "127.0.0.1" }
`, nil)), time.Now())
	result, err := e.Apply(t.Context(), n)
	wantError(t, err, "terraform_data.bad: local-exec provisioner error", "exit status 3", "no room left")
	if result.State == nil {
		t.Fatal("there is no state of what was made")
	}
	discard(t, e, n)
	destroy(t, e, n, result.State)
}

// Stragglers are what terraform leaves behind when it is killed while no broker
// is there to see it.
func TestStragglersAreKilled(t *testing.T) {
	dir := t.TempDir()
	leader := exec.Command("sh", "-c", "sleep 1000 & sleep 1000 & echo started; wait")
	leader.Dir = dir
	leader.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := leader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// A server that was started on purpose has a group of its own.
	server := exec.Command("sleep", "1000")
	server.Dir = dir
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, cmd := range []*exec.Cmd{leader, server} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		checkNoProcess(t, filepath.Dir(dir))
	})
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if err := leader.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = leader.Wait()

	killStragglers(dir)
	if err := server.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the server was killed: %v", err)
	}
	waitFor(t, "the end of the stragglers", func() bool {
		left := 0
		for _, pid := range pids() {
			if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); cwd == dir {
				left++
			}
		}
		return left == 1
	})
}
