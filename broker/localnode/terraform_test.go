package localnode

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// workspace is a copy of modules/local that real Terraform runs on, with this
// test binary for duffy-broker.
type workspace struct {
	dir, terraform string
	node           node
	env            []string
}

func newWorkspace(t *testing.T, variables map[string]any) workspace {
	t.Helper()
	w := workspace{dir: t.TempDir(), terraform: brokertest.NeedProgram(t, "terraform"), node: newNode(t, ServerAuto)}
	if err := os.CopyFS(w.dir, os.DirFS("../../modules/local")); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"broker": map[string]any{
		"id": "b", "node_id": w.node.UID, "pool": "p", "hostname": w.node.Hostname, "tags": map[string]string{},
		"ssh_public_keys": append([]string{keyLine(newKey(t))}, w.node.Keys...), "directory": w.node.Dir,
	}}
	maps.Copy(all, variables)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "terraform.tfvars.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_CLI_CONFIG_FILE=/dev/null", "DUFFY_BROKER="+w.node.Executable)
	w.want(t, true, "init", "-input=false")
	return w
}

// want runs Terraform, which must succeed or fail, and gives all it wrote.
func (w workspace) want(t *testing.T, success bool, args ...string) string {
	t.Helper()
	cmd := exec.Command(w.terraform, append(args, "-no-color")...)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	if (err == nil) != success {
		t.Fatalf("terraform %s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

// outputs gives the module's outputs by name.
func (w workspace) outputs(t *testing.T) map[string]any {
	t.Helper()
	var state struct {
		Outputs map[string]struct{ Value any }
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "terraform.tfstate"))
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for name, output := range state.Outputs {
		values[name] = output.Value
	}
	return values
}

func TestModule(t *testing.T) {
	w := newWorkspace(t, map[string]any{"size": "large"})
	w.want(t, true, "apply", "-auto-approve")
	want := map[string]any{
		"ipaddr":        w.node.fact(t, "address"),
		"hostname":      w.node.Hostname,
		"ssh_user":      w.node.fact(t, "user"),
		"ssh_port":      float64(portOf(t, w.node)),
		"ssh_host_keys": []any{w.node.fact(t, "host_key.pub")},
		"data":          map[string]any{"size": "large"},
	}
	if diff := cmp.Diff(want, w.outputs(t)); diff != "" {
		t.Errorf("outputs: -want +got\n%s", diff)
	}
	if got := w.node.run(t, "echo $DUFFY_NODE"); got != w.node.Hostname {
		t.Errorf("the node calls itself %q, want %q", got, w.node.Hostname)
	}
	w.want(t, true, "plan", "-detailed-exitcode") // 0: nothing to change
	w.want(t, true, "destroy", "-auto-approve")
	w.node.wantNothingLeft(t)
}

func portOf(t *testing.T, n node) (port int) {
	t.Helper()
	if err := json.Unmarshal([]byte(n.fact(t, "port")), &port); err != nil {
		t.Fatal(err)
	}
	return port
}

func TestModule_faults(t *testing.T) {
	w := newWorkspace(t, map[string]any{"boot_delay": 1.5, "answers": false, "dies_after": 3600, "ssh_server": "builtin"})
	w.want(t, true, "apply", "-auto-approve")
	text, err := os.ReadFile(directory(w.node.Dir).path("options.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got Options
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := Options{BootDelay: 1.5e9, Silent: true, DiesAfter: 3600e9, Server: ServerBuiltin}
	if diff := cmp.Diff(want, Options{BootDelay: got.BootDelay, Silent: got.Silent, DiesAfter: got.DiesAfter, Server: got.Server}); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	w.want(t, true, "destroy", "-auto-approve", "-refresh=false")
	w.node.wantNothingLeft(t)
}

func TestModule_refusesBadVariables(t *testing.T) {
	for name, tt := range map[string]struct {
		value any
		want  string
	}{
		"size":       {" ", "size must not be empty"},
		"boot_delay": {-1, "boot_delay is in seconds"},
		"dies_after": {-1, "dies_after is in seconds"},
		"ssh_server": {"telnet", `ssh_server must be "auto", "openssh" or "builtin"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkspace(t, map[string]any{name: tt.value})
			if out := w.want(t, false, "plan"); !strings.Contains(out, tt.want) {
				t.Errorf("got %s\nwant %s", out, tt.want)
			}
		})
	}
}

func TestModule_withoutTheBinary(t *testing.T) {
	w := newWorkspace(t, nil)
	w.env = append(w.env, "DUFFY_BROKER=")
	if out := w.want(t, false, "apply", "-auto-approve"); !strings.Contains(out, "DUFFY_BROKER: is not set") {
		t.Errorf("got %s", out)
	}
	w.env = append(w.env, "DUFFY_BROKER="+w.node.Executable)
	w.want(t, true, "destroy", "-auto-approve")
	w.node.wantNothingLeft(t)
}

// A wiped directory is gone for good; the workspace must go too.
func TestModule_destroysWhatIsGone(t *testing.T) {
	w := newWorkspace(t, nil)
	w.want(t, true, "apply", "-auto-approve")
	if err := os.RemoveAll(w.node.Dir); err != nil {
		t.Fatal(err)
	}
	w.want(t, true, "destroy", "-auto-approve")
	w.node.wantNothingLeft(t)
}

// However a create ends, a destroy afterwards leaves nothing: here the node is
// there, and Terraform thinks that the create failed. OpenTofu that is killed
// does not even know of the directory, since it writes its state every 20 seconds
// at most, and Terraform after every resource: then the broker's sweep is needed.
func TestModule_destroysWhatAnInterruptedCreateLeft(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			w := newWorkspace(t, nil)
			// Stands in for duffy-broker: makes the node, then hangs.
			started := filepath.Join(w.dir, "started")
			hangs := filepath.Join(w.dir, "hangs")
			script := "#!/bin/sh\n\"$REAL\" \"$@\" && : > '" + started + "' && exec sleep 600\n"
			if err := os.WriteFile(hangs, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(w.terraform, "apply", "-auto-approve", "-no-color")
			cmd.Dir, cmd.Env = w.dir, append(w.env, "DUFFY_BROKER="+hangs, "REAL="+w.node.Executable)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the node is started", func() bool { _, err := os.Stat(started); return err == nil })
			if err := syscall.Kill(cmd.Process.Pid, signal); err != nil {
				t.Fatal(err)
			}
			if signal == syscall.SIGKILL {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the provisioner, which holds the output open
			}
			if err := cmd.Wait(); err == nil {
				t.Fatalf("the create succeeded: %s", out.String())
			}
			w.node.run(t, "true") // the node is there
			w.want(t, true, "destroy", "-auto-approve")
			if signal == syscall.SIGKILL && strings.HasPrefix(w.want(t, true, "version"), "OpenTofu") {
				if err := Stop(t.Context(), w.node.Dir); err != nil {
					t.Error(err)
				}
			}
			w.node.wantNothingLeft(t)
		})
	}
}

func TestModule_isFormatted(t *testing.T) {
	out, err := exec.Command(brokertest.NeedProgram(t, "terraform"), "fmt", "-check", "-diff", "../../modules/local").CombinedOutput()
	if err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
}
