package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// trial runs `modules test` with files for temporary ones of its own.
type trial struct {
	*testing.T
	dir, tmp string
	env      []string
}

func newTrial(t *testing.T, pools string) *trial {
	t.Helper()
	brokertest.NeedProgram(t, "terraform")
	tr := &trial{T: t, dir: t.TempDir(), tmp: t.TempDir()}
	writeFile(t, filepath.Join(tr.dir, "pools.hcl"), pools)
	return tr
}

func (tr *trial) start(args ...string) (cmd *exec.Cmd, out, errOut *lineBuffer) {
	tr.Helper()
	args = append([]string{"modules", "test"}, args...)
	if other := os.Getenv(brokertest.TerraformVariable); other != "" {
		args = append(args, "--terraform", other)
	}
	cmd = exec.Command(binary, args...)
	out, errOut = new(lineBuffer), new(lineBuffer)
	cmd.Dir, cmd.Stdout, cmd.Stderr = tr.dir, out, errOut
	cmd.Env = append(append(os.Environ(), "TMPDIR="+tr.tmp, "CHECKPOINT_DISABLE=1"), tr.env...)
	if err := cmd.Start(); err != nil {
		tr.Fatal(err)
	}
	return cmd, out, errOut
}

func (tr *trial) run(args ...string) (code int, out, errOut string) {
	tr.Helper()
	cmd, o, e := tr.start(args...)
	_ = cmd.Wait() // the code tells
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// steps runs a test, and gives its steps by their outcome.
func (tr *trial) steps(args ...string) (result testResult, steps []string, code int, errOut string) {
	tr.Helper()
	code, out, errOut := tr.run(append(args, "--format", "json")...)
	var answer struct {
		Test testResult `json:"test"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		tr.Fatalf("%v: exit %d: %v\n%s%s", args, code, err, out, errOut)
	}
	for _, s := range answer.Test.Steps {
		outcome := "good"
		switch {
		case s.Skipped:
			outcome = "skipped"
		case !s.Good:
			outcome = string(s.Class)
		}
		steps = append(steps, s.Step+" "+outcome)
	}
	return answer.Test, steps, code, errOut
}

// nothingLeft: neither files, nor processes that work on them.
func (tr *trial) nothingLeft() {
	tr.Helper()
	left, err := os.ReadDir(tr.tmp)
	if len(left) > 0 || err != nil {
		tr.Errorf("files are left: %v, %v", left, err)
	}
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") // a good pattern
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(tr.tmp)) {
			tr.Errorf("a process is left: %q", text)
		}
	}
}

const localPool = "pool \"a\" {\n  module = \"builtin:local\"\n}\npool \"dumb\" {\n  module    = \"builtin:local\"\n  variables = { answers = false }\n  ready {\n    timeout = \"1s\"\n  }\n}\n"

// A good node is made, used and destroyed; nothing stays of it, and the time of each
// step is told.
func TestModulesTest(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, localPool)
	code, out, errOut := tr.run("a")
	if want := regexp.MustCompile(`^prepare +\d+\.\ds  ok: node [0-9a-f]{16}
create +\d+\.\ds  ok: node-[0-9a-f]{16} at 127\.\S+ port \d+
check +\d+\.\ds  ok: by the host key that the module gives
contextualize +\d+\.\ds  ok
login +\d+\.\ds  ok: as \S+
destroy +\d+\.\ds  ok
all +\d+\.\ds
$`); code != 0 || !want.MatchString(out) {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	tr.nothingLeft()

	result, steps, code, errOut := tr.steps("a")
	good := []string{"prepare good", "create good", "check good", "contextualize good", "login good", "destroy good"}
	if diff := cmp.Diff(good, steps); diff != "" || code != 0 || !result.Good || result.Node == nil || result.Module != "builtin:local" || result.Directory != "" {
		t.Errorf("exit %d: %+v\n%s%s", code, result, diff, errOut)
	}
	tr.nothingLeft()

	result, steps, code, errOut = tr.steps("dumb")
	if diff := cmp.Diff([]string{"prepare good", "create good", "check unreachable", "destroy good"}, steps); diff != "" || code != 1 || result.Good || !strings.Contains(errOut, `pool "dumb": check failed`) {
		t.Errorf("a node that does not answer: exit %d: %+v\n%s%s", code, result, diff, errOut)
	}
	tr.nothingLeft()
}

// A node that is kept can be logged into with the key that was named, and destroyed
// by another process.
func TestModulesTest_keep(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, localPool)
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command(brokertest.NeedProgram(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if code, _, errOut := tr.run("a", "--tenant-key", key+".missing"); code != 1 || !strings.Contains(errOut, "contextualize failed") {
		t.Errorf("a key that is not there: exit %d: %s", code, errOut)
	}
	tr.nothingLeft()
	result, steps, code, errOut := tr.steps("a", "--keep", "--tenant-key", key)
	if diff := cmp.Diff([]string{"prepare good", "create good", "check good", "contextualize good", "login good"}, steps); diff != "" || code != 0 || !strings.Contains(errOut, "ssh -i "+key) {
		t.Fatalf("exit %d: %+v\n%s%s", code, result, diff, errOut)
	}
	ssh := exec.Command(brokertest.NeedProgram(t, "ssh"), "-i", key, "-p", fmt.Sprint(result.Node.Port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
		result.Node.User+"@"+result.Node.Address, "echo $DUFFY_NODE")
	if out, err := ssh.Output(); err != nil || strings.TrimSpace(string(out)) != result.Node.Hostname {
		t.Errorf("login: %v: %s", err, out)
	}
	if want := "duffy-broker modules test --destroy " + result.Directory; result.Destroy != want || !strings.Contains(errOut, want) {
		t.Errorf("the command to destroy it is %q, and told: %s", result.Destroy, errOut)
	}
	_, steps, code, errOut = tr.steps("--destroy", result.Directory)
	if diff := cmp.Diff([]string{"destroy good"}, steps); diff != "" || code != 0 {
		t.Errorf("exit %d: %s%s", code, diff, errOut)
	}
	tr.nothingLeft()
}

// cloudTrial makes instances without SSH, in a cloud that does as it is told.
func cloudTrial(t *testing.T, cloud *fakecloud.Cloud) *trial {
	t.Helper()
	module, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/module")
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrial(t, fmt.Sprintf(`
pool "cloudy" {
  module        = %q
  contextualize = "none"
  variant "near" {
    variables = { endpoint = "http://127.0.0.1:1" }
  }
  variant "far" {
    variables = { endpoint = %q }
  }
}
`, module, cloud.URL()))
	tr.env = []string{"TF_CLI_CONFIG_FILE=" + fakecloud.Mirror(t)}
	return tr
}

// A create that fails says why; what it made goes.
func TestModulesTest_failingCreate(t *testing.T) {
	t.Parallel()
	cloud := fakecloud.Start(t, fakecloud.Config{})
	tr := cloudTrial(t, cloud)
	result, steps, code, errOut := tr.steps("cloudy", "--variant", "far")
	if diff := cmp.Diff([]string{"prepare good", "create good", "check skipped", "contextualize skipped", "login skipped", "destroy good"}, steps); diff != "" || code != 0 || result.Variant != "far" {
		t.Errorf("exit %d: %+v\n%s%s", code, result, diff, errOut)
	}
	for _, late := range []bool{false, true} {
		cloud.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.Create, Class: fakecloud.InsufficientCapacity, Late: late, Times: 1}}})
		result, steps, code, errOut = tr.steps("cloudy", "--variant", "far")
		if diff := cmp.Diff([]string{"prepare good", "create no_capacity", "destroy good"}, steps); diff != "" || code != 1 || !strings.Contains(result.Steps[1].Problem, "no host has room") {
			t.Errorf("late %t: exit %d: %+v\n%s%s", late, code, result, diff, errOut)
		}
		tr.nothingLeft()
	}
	if n := cloud.Calls(fakecloud.Create); n != 3 {
		t.Errorf("%d creates", n)
	}
}

// What can't be destroyed stays known, and goes with the command that is told.
func TestModulesTest_failingDestroy(t *testing.T) {
	t.Parallel()
	cloud := fakecloud.Start(t, fakecloud.Config{Faults: fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.Delete, Class: fakecloud.AuthFailure}}}})
	tr := cloudTrial(t, cloud)
	result, steps, code, errOut := tr.steps("cloudy", "--variant", "far")
	last := result.Steps[len(result.Steps)-1]
	if code != 1 || steps[len(steps)-1] != "destroy auth" || !strings.Contains(last.Problem, "still recorded: fakecloud_instance.node") || !strings.Contains(errOut, result.Destroy) || result.Destroy == "" {
		t.Fatalf("exit %d: %+v\n%s", code, result, errOut)
	}
	if len(cloud.Instances()) != 1 {
		t.Fatalf("instances %+v", cloud.Instances())
	}
	if _, steps, code, _ := tr.steps("--destroy", result.Directory); code != 1 || steps[0] != "destroy auth" {
		t.Errorf("once more: exit %d: %q", code, steps)
	}
	cloud.SetFaults(fakecloud.Faults{})
	if _, steps, code, errOut := tr.steps("--destroy", result.Directory); code != 0 || steps[0] != "destroy good" || len(cloud.Instances()) != 0 {
		t.Errorf("exit %d: %q, instances %+v\n%s", code, steps, cloud.Instances(), errOut)
	}
	tr.nothingLeft()
}

// Ctrl-C in a create: it is let end, and then all is destroyed. Another one leaves
// it, and says how to go on.
func TestModulesTest_interrupted(t *testing.T) {
	t.Parallel()
	cloud := fakecloud.Start(t, fakecloud.Config{Faults: fakecloud.Faults{Latency: map[fakecloud.Operation]time.Duration{fakecloud.Create: 2 * time.Second}}})
	tr := cloudTrial(t, cloud)
	interrupt := func(cmd *exec.Cmd) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	// begun waits until the create has begun, or for what is printed.
	begun := func(creates int, errOut *lineBuffer, text string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); cloud.Calls(fakecloud.Create) < creates || !strings.Contains(errOut.String(), text); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the create does not begin: %s", errOut)
			}
		}
	}
	cmd, out, errOut := tr.start("cloudy", "--variant", "far", "--keep")
	begun(1, errOut, "")
	interrupt(cmd)
	_ = cmd.Wait() // the code tells
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(errOut.String(), "stopping: ") || !regexp.MustCompile(`create +\S+  failed \(interrupted\)\n.*\ndestroy +\S+  ok\n`).MatchString(out.String()) {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	if n := len(cloud.Instances()); n != 0 {
		t.Errorf("%d instances are left", n)
	}
	tr.nothingLeft()

	cmd, out, errOut = tr.start("cloudy", "--variant", "far")
	begun(2, errOut, "")
	interrupt(cmd)
	begun(2, errOut, "destroy ...")
	interrupt(cmd)
	_ = cmd.Wait() // the code tells
	left := regexp.MustCompile(`duffy-broker modules test --destroy (\S+)`).FindStringSubmatch(errOut.String())
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || left == nil {
		t.Fatalf("exit %d: %s%s", code, out, errOut)
	}
	if _, steps, code, errOut := tr.steps("--destroy", left[1]); code != 0 || steps[0] != "destroy good" {
		t.Errorf("exit %d: %q\n%s", code, steps, errOut)
	}
	if n, made := len(cloud.Instances()), cloud.Calls(fakecloud.Create); n != 0 || made != 2 {
		t.Errorf("%d of %d instances are left", n, made)
	}
	tr.nothingLeft()
}

// A pool of an inventory takes the host that is named, and none by itself.
func TestModulesTest_host(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, rackPool(t, "/nonexistent", `
inventory "rack" {
  host "n1" {
    ipaddr     = "192.0.2.1"
    attributes = { arch = "x86_64" }
  }
  host "n2" {
    ipaddr     = "192.0.2.2"
    attributes = { arch = "ppc64le" }
  }
}
`)+"pool \"free\" {\n  module = \"builtin:local\"\n}\n")
	for want, args := range map[string][]string{
		"--host with one of n1":     {"metal"},
		`there is no host "n2"`:     {"metal", "--host", "n2"}, // it has not what the pool asks for
		"did you mean n1?":          {"metal", "--host", "n3"},
		"draws from no inventory":   {"free", "--host", "n1"},
		`there is no pool "metl"`:   {"metl"},
		`there is no variant "x"`:   {"free", "--variant", "x"},
		"no pool was named":         {},
		"a pool and --destroy":      {"metal", "--destroy", tr.dir},
		"is not the directory of a": {"--destroy", tr.dir},
		`there is no format "flat"`: {"metal", "--format", "flat"},
	} {
		if code, _, errOut := tr.run(args...); code != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%v: exit %d, and not %q: %s", args, code, want, errOut)
		}
	}
	result, _, code, errOut := tr.steps("metal", "--host", "n1")
	if code != 0 || result.Node == nil || result.Node.Address != "192.0.2.1" || !strings.Contains(errOut, "a broker that runs does not know of it") {
		t.Errorf("exit %d: %+v\n%s", code, result, errOut)
	}
	tr.nothingLeft()
}

// A module that is not accepted makes nothing, and leaves nothing.
func TestModulesTest_refused(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, "pool \"a\" {\n  module        = \"./m\"\n  contextualize = \"none\"\n}\n")
	writeFile(t, filepath.Join(tr.dir, "m", "main.tf"), "variable \"broker\" {}\noutput \"ipaddr\" { value = terraform_data.gone.output }\n")
	result, steps, code, errOut := tr.steps("a")
	if diff := cmp.Diff([]string{"prepare other"}, steps); diff != "" || code != 1 || !strings.Contains(errOut, "nothing was made") {
		t.Errorf("exit %d: %+v\n%s%s", code, result, diff, errOut)
	}
	tr.nothingLeft()
}

// What a broker makes of the record that is kept is the node.
func TestTestRecord(t *testing.T) {
	want := testRecord{BrokerID: "b", Node: broker.NewNode(broker.Pool{Name: "a", Environment: broker.Environment{Credentials: map[string]string{"X": "env:Y"}}}, time.Unix(1, 0).UTC()), State: []byte{1}}
	text, err := json.Marshal(want)
	var got testRecord
	if err = errors.Join(err, json.Unmarshal(text, &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
