package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/secret"
)

// The tests in this file run the real Terraform in directories and on disks that
// something bad has happened to. Each has a way out, and none reports success
// before it is one.

// logModule keeps a log of what was made and destroyed outside of all that is
// damaged.
const logModule = `
variable "broker" { type = object({ node_id = string }) }
variable "log" { type = string }
resource "terraform_data" "node" {
  input = var.log
  provisioner "local-exec" {
    command     = "echo create >> $LOG"
    environment = { LOG = self.input }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "echo destroy >> $LOG; if test -e $LOG.hang; then rm $LOG.hang; touch $LOG.hanging; sleep 1000; fi"
    environment = { LOG = self.output }
  }
}
output "ipaddr" { value = "127.0.0.1" }
output "password" {
  value     = "` + password + `"
  sensitive = true
}
`

// made gives a node that exists, with its state in clear and sealed, and the log
// of what was done to it.
func made(t *testing.T) (e *Engine, n broker.Node, plain string, sealed []byte, log string) {
	t.Helper()
	e = testEngine(t, brokertest.NeedProgram(t, "terraform"))
	log = filepath.Join(t.TempDir(), "log")
	n = broker.NewNode(prepared(t, e, modulePool(t, logModule, map[string]any{"log": log})), time.Now())
	sealed = apply(t, e, n).State
	plain = read(t, filepath.Join(e.runsDir(), n.UID, stateFile))
	return e, n, plain, sealed, log
}

// laterSerial gives a state as the next change would leave it.
func laterSerial(t *testing.T, plain string) string {
	t.Helper()
	s, err := parseState([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(plain, fmt.Sprintf(`"serial": %d`, s.Serial), fmt.Sprintf(`"serial": %d`, s.Serial+1), 1)
}

// A destroy finds what a crash has left of a state, and does its work all the same.
func TestDestroyWithWreckedState(t *testing.T) {
	beforeFile := filepath.Join(ownDir, "destroy.before.tfstate")
	for name, tt := range map[string]struct {
		lost  bool // the store has no state
		wreck func(plain string) map[string]string
	}{
		"0 bytes":                        {wreck: func(string) map[string]string { return map[string]string{stateFile: ""} }},
		"truncated":                      {wreck: func(p string) map[string]string { return map[string]string{stateFile: p[:400]} }},
		"0 bytes, and nothing is stored": {lost: true, wreck: func(p string) map[string]string { return map[string]string{stateFile: "", beforeFile: p} }},
		"truncated, and nothing is stored": {lost: true, wreck: func(p string) map[string]string {
			return map[string]string{stateFile: p[:400], beforeFile: p}
		}},
		"errored.tfstate alone": {lost: true, wreck: func(p string) map[string]string { return map[string]string{stateFile: "", erroredFile: p} }},
		"errored.tfstate cut off, too": {wreck: func(p string) map[string]string {
			return map[string]string{stateFile: "", erroredFile: p[:400]}
		}},
		"a dump in the output alone": {lost: true, wreck: func(p string) map[string]string {
			return map[string]string{stateFile: "", erroredFile: "", filepath.Join(ownDir, "apply.json"): dump(t, p)}
		}},
		"a dump that was cut off": {wreck: func(p string) map[string]string {
			return map[string]string{stateFile: "", filepath.Join(ownDir, "apply.json"): dump(t, p)[:500]}
		}},
		"a stale lock": {wreck: func(p string) map[string]string {
			return map[string]string{stateFile: p, ".terraform.tfstate.lock.info": `{"ID":"1","Operation":"OperationTypeApply","Who":"nobody"}`}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e, n, plain, sealed, log := made(t)
			discard(t, e, n)
			if tt.lost {
				sealed = nil
			}
			for name, content := range tt.wreck(plain) {
				write(t, filepath.Join(e.runsDir(), n.UID, name), content)
			}
			destroy(t, e, n, sealed)
			if got := read(t, log); got != "create\ndestroy\n" {
				t.Errorf("what was done to the node: %q, want one destroy", got)
			}
		})
	}
}

// dump is the line in which Terraform writes a state that it can store nowhere.
func dump(t *testing.T, plain string) string {
	t.Helper()
	line, err := json.Marshal(map[string]any{
		"@level": "info", "@message": "Emergency state dump", "type": "log", "state": json.RawMessage(plain),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

// An apply whose state is damaged after its end is not a success, whoever asks.
func TestApplyWithWreckedState(t *testing.T) {
	for name, tt := range map[string]struct {
		wreck func(t *testing.T, dir, plain string)
		want  string // "" for success
	}{
		"0 bytes":   {func(t *testing.T, dir, _ string) { write(t, filepath.Join(dir, stateFile), "") }, "the state file is empty"},
		"truncated": {func(t *testing.T, dir, p string) { write(t, filepath.Join(dir, stateFile), p[:400]) }, "the state file can't be read (400 bytes)"},
		"removed": {func(t *testing.T, dir, _ string) {
			if err := os.Remove(filepath.Join(dir, stateFile)); err != nil {
				t.Fatal(err)
			}
		}, "there is no state file"},
		"0 bytes, errored.tfstate": {func(t *testing.T, dir, p string) {
			write(t, filepath.Join(dir, stateFile), "")
			write(t, filepath.Join(dir, erroredFile), p)
		}, ""},
		"older than errored.tfstate": {func(t *testing.T, dir, p string) {
			write(t, filepath.Join(dir, erroredFile), laterSerial(t, p))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, n, plain, sealed, _ := made(t)
			tt.wreck(t, filepath.Join(e.runsDir(), n.UID), plain)
			result, err := engineIn(t, e.Dir, e.Binary.Path).Apply(t.Context(), n)
			if tt.want == "" {
				if err != nil || result.State == nil {
					t.Errorf("got error %v, a state: %t", err, result.State != nil)
				}
			} else {
				wantError(t, err, tt.want, "something may be left", "terraform_data.node")
				if result.State != nil || result.Outputs.Address != "" {
					t.Errorf("a result without a state: %+v", result)
				}
			}
			discard(t, e, n)
			destroy(t, e, n, sealed)
		})
	}
}

// The lock of a Terraform that was killed does not stand in the way: the next run
// goes through, once.
func TestStory11StateLockLeftBehind(t *testing.T) {
	e, n, _, sealed, log := made(t)
	discard(t, e, n)
	write(t, log+".hang", "") // for one destroy
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := e.Destroy(ctx, n, sealed)
		done <- err
	}()
	waitForFile(t, log+".hanging")
	cancel() // the broker stops, and then its Terraform is killed
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Destroy: %v, want %v", err, context.Canceled)
	}
	r, err := e.run(n, opDestroy)
	if err != nil {
		t.Fatal(err)
	}
	if err := findProcess(t.Context(), "-var-file="+r.variables()).Kill(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the run", func() bool { alive, err := r.alive(); return err == nil && !alive })
	if lock := filepath.Join(r.dir, ".terraform.tfstate.lock.info"); !exists(lock) {
		t.Fatal("there is no lock file: this test tests nothing")
	}
	result, err := engineIn(t, e.Dir, e.Binary.Path).Destroy(t.Context(), n, sealed)
	if err != nil || result.State != nil {
		t.Fatalf("the next destroy: a state: %t, %v", result.State != nil, err)
	}
	var classes []broker.FailureClass
	for _, r := range result.Runs {
		classes = append(classes, r.Class)
	}
	if diff := cmp.Diff([]broker.FailureClass{broker.FailureInterrupted, ""}, classes); diff != "" {
		t.Errorf("classes of the runs (-want +got):\n%s", diff)
	}
	if got := read(t, log); got != "create\ndestroy\ndestroy\n" {
		t.Errorf("what was done to the node: %q, want two tries to destroy", got)
	}
}

// diskModule fills a disk while its node is made.
const diskModule = `
variable "broker" { type = object({ node_id = string }) }
variable "filler" { type = string }
variable "password" {
  type      = string
  sensitive = true
}
resource "terraform_data" "node" {
  input = var.password
}
resource "terraform_data" "second" {
  input = join("", [for i in range(1000) : "the state grows with it "])
  depends_on = [terraform_data.node]
  provisioner "local-exec" {
    command = "if test ! -e ${var.filler}; then head -c 20m /dev/zero > ${var.filler}; fi; true"
  }
}
output "ipaddr" { value = "127.0.0.1" }
`

// diskJob makes the test binary the one who works on a small disk, within a mount
// namespace of its own.
const diskJob = "DUFFY_TEST_DISK_JOB"

// disk is what a disk job is given: the small disk is mounted at Small.
type disk struct {
	Binary, Small, Data, Filler, Module string
	// StateOnly: of the run only the state is on the small disk.
	StateOnly bool
}

// runDiskJob says what is wrong, or nothing.
func runDiskJob(text string) error {
	var d disk
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return err
	}
	keys, err := secret.Open(filepath.Join(d.Data, "keys"))
	if err != nil {
		return err
	}
	e := New(Config{Binary: Binary{Path: d.Binary}, Dir: d.Data, Keyring: keys, Log: logTo(os.Stderr)})
	defer e.reapers.Wait()
	variables, err := json.Marshal(map[string]any{"filler": d.Filler, "password": password})
	if err != nil {
		return err
	}
	ctx, p := context.Background(), broker.Pool{Name: "small", Module: d.Module, Variables: variables, CreateTimeout: time.Hour, DestroyTimeout: time.Hour}
	if p.Source, err = e.Prepare(ctx, p); err != nil {
		return err
	}
	n := broker.NewNode(p, time.Now())
	if d.StateOnly {
		dir := filepath.Join(e.runsDir(), n.UID)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join(d.Small, "state"), filepath.Join(dir, stateFile)); err != nil {
			return err
		}
	}
	// The disk fills up while the node is made.
	result, err := e.Apply(ctx, n)
	if err == nil {
		return errors.New("the apply succeeds on a full disk")
	}
	if strings.Contains(err.Error(), password) || !strings.Contains(err.Error(), "no space left on device") {
		return fmt.Errorf("the error of the apply: %w", err)
	}
	if errored := exists(filepath.Join(e.runsDir(), n.UID, erroredFile)); errored != true {
		return errors.New("there is no errored.tfstate: this test tests nothing")
	}
	s, unsealErr := e.unseal(n, result.State)
	if unsealErr != nil || len(s.resources()) != 2 {
		return fmt.Errorf("the state has %v (%w), want both resources; the apply says %w", s.resources(), unsealErr, err)
	}
	log, err := e.OpenLog(broker.Run{NodeUID: n.UID}, result.Runs[0].Log)
	if err != nil {
		return err
	}
	if strings.Contains(string(log), password) || strings.Contains(string(log), `"lineage"`) {
		return fmt.Errorf("the log holds the state:\n%s", log)
	}
	if !d.StateOnly {
		// A destroy that begins on a full disk destroys nothing, and says so.
		left, err := e.Destroy(ctx, n, result.State)
		if err == nil || left.State == nil || !strings.Contains(err.Error(), "no space left on device") {
			return fmt.Errorf("destroy on a full disk: a state: %t, %w", left.State != nil, err)
		}
		fmt.Fprintln(os.Stderr, "destroy on a full disk:", err)
	}
	// With space it goes on by itself: the file stays, so that it is not filled again.
	if err := os.Truncate(d.Filler, 0); err != nil {
		return err
	}
	if err := e.Discard(n); err != nil {
		return err
	}
	left, err := e.Destroy(ctx, n, result.State)
	if err != nil || left.State != nil {
		return fmt.Errorf("destroy: a state: %t, %w", left.State != nil, err)
	}
	return e.Discard(n)
}

// A disk that fills during a run loses no resource: the state is taken from
// errored.tfstate, or from the output if there was no room for that either.
func TestDiskFillsDuringARun(t *testing.T) {
	if runtime.GOOS != "linux" {
		brokertest.Skip(t, "a small file system can be mounted on Linux only")
	}
	unshare, terraform := brokertest.NeedProgram(t, "unshare"), brokertest.NeedProgram(t, "terraform")
	for name, stateOnly := range map[string]bool{"of the state and of everything else": false, "of the state alone": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			small, module := filepath.Join(dir, "small"), filepath.Join(dir, "module")
			write(t, filepath.Join(module, "main.tf"), diskModule)
			if err := os.Mkdir(small, 0o700); err != nil {
				t.Fatal(err)
			}
			d := disk{Binary: terraform, Small: small, Data: filepath.Join(small, "data"), Filler: filepath.Join(small, "filler"), Module: module, StateOnly: stateOnly}
			if stateOnly {
				d.Data = filepath.Join(dir, "data")
			}
			text, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			flags := "-m"
			if os.Geteuid() != 0 {
				flags = "-rm"
			}
			cmd := exec.CommandContext(t.Context(), unshare, flags, "sh", "-c", `mount -t tmpfs -o size=8m,mode=700 tmpfs "$0" && exec "$@"`, small, os.Args[0])
			cmd.Env = append(os.Environ(), diskJob+"="+string(text))
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}
