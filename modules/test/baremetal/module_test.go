package baremetal_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/redfish"
	"github.com/duffy-broker/duffy-broker/broker/terraform/duffyprovider"
)

// workspace is a copy of the module that Terraform works in: a test takes the broker's
// place.
type workspace struct {
	t   *testing.T
	dir string
	env []string
}

func newWorkspace(t *testing.T, env ...string) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir(), env: append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE="+os.DevNull)}
	w.env = append(w.env, env...)
	if err := os.CopyFS(w.dir, os.DirFS(filepath.Join(providers.Root(t), "modules", "bare-metal"))); err != nil {
		t.Fatal(err)
	}
	plugins := filepath.Join(w.dir, "terraform.d", "plugins", "registry.terraform.io", duffyprovider.Namespace, duffyprovider.Type, duffyprovider.Version, runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(live.Binary(), filepath.Join(plugins, duffyprovider.FileName())); err != nil {
		t.Fatal(err)
	}
	w.must("init", "-no-color")
	return w
}

// run gives what Terraform prints, in one line.
func (w *workspace) run(args ...string) (string, error) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), brokertest.NeedProgram(w.t, "terraform"), args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	return strings.Join(strings.Fields(strings.ReplaceAll(string(out), "│", " ")), " "), err
}

func (w *workspace) must(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("terraform %s: %v\n%s", args[0], err, out)
	}
	return out
}

// vary writes the variables of a node on a machine, changed.
func (w *workspace) vary(controller string, change map[string]any) {
	w.t.Helper()
	const id = "0123456789abcdef"
	variables := map[string]any{
		"broker": map[string]any{
			"id": "6a1d3a30-0000-4000-8000-00000000b001", "node_id": id, "pool": "p", "hostname": "node-" + id, "tags": map[string]string{},
			"ssh_public_keys": []string{"ssh-ed25519 AAAA broker"}, "directory": filepath.Join(w.dir, "nodes", id), "url": "http://192.0.2.1", "token": "secret-of-the-node",
			"ssh_host_key": map[string]string{"private_key": "KEY\n", "public_key": "ssh-ed25519 HHHH"},
			"host": map[string]any{
				"name": "n1", "hostname": "n1.example.org", "ipaddr": "192.0.2.11", "bmc": map[string]string{"address": controller, "kind": "redfish"}, "attributes": map[string]string{},
			},
		},
		"wait_for": "none", "kernel": "http://192.0.2.1/vmlinuz", "initrd": []string{"http://192.0.2.1/initrd.img"}, "source_url": "http://192.0.2.1/os",
	}
	maps.Copy(variables, change)
	text, err := json.Marshal(variables)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "terraform.tfvars.json"), text, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// newController gives one of a machine, and how Terraform gets into it.
func newController(t *testing.T, options redfish.Options) (*redfish.Server, []string) {
	t.Helper()
	fish := redfish.New(t, options)
	fish.SetTag("rack 4")
	return fish, []string{"REDFISH_USERNAME=" + fish.Username, "REDFISH_PASSWORD=" + fish.Password}
}

// TestModule runs the module's own tests, with the provider that is in the program.
func TestModule(t *testing.T) {
	w := newWorkspace(t)
	for _, args := range [][]string{{"validate", "-no-color"}, {"fmt", "-check", "-diff", "-recursive"}, {"test", "-no-color"}} {
		w.must(args...)
	}
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	var powered atomic.Int32 // the machine goes on after the answer
	fish, env := newController(t, redfish.Options{OnPower: func(bool, redfish.Boot) { powered.Add(1) }})
	w := newWorkspace(t, env...)
	w.vary(fish.URL(), nil)
	w.must("apply", "-auto-approve", "-input=false", "-no-color")
	if !fish.On() || !strings.Contains(fish.Tag(), "duffy:") {
		t.Fatalf("the machine is on: %t, its tag %q", fish.On(), fish.Tag())
	}
	before, tag := powered.Load(), fish.Tag()
	if out, err := w.run("plan", "-detailed-exitcode", "-input=false", "-no-color"); err != nil { // 2 if there is anything to do
		t.Errorf("the plan after the apply: %v\n%s", err, out)
	}
	if out := w.must("apply", "-auto-approve", "-input=false", "-no-color"); !strings.Contains(out, "0 added, 0 changed, 0 destroyed") {
		t.Errorf("the second apply: %s", out)
	}
	if powered.Load() != before || fish.Tag() != tag {
		t.Errorf("the second apply has switched the machine %d times; its tag was %q, and is %q", powered.Load()-before, tag, fish.Tag())
	}
	w.must("destroy", "-auto-approve", "-input=false", "-no-color")
	if fish.On() || strings.TrimSpace(fish.Tag()) != "rack 4" {
		t.Errorf("the machine is on: %t, its tag %q", fish.On(), fish.Tag())
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "nodes")); err == nil && len(left) > 0 {
		t.Errorf("of the node's directory there is left %v", left)
	}
	w.must("destroy", "-auto-approve", "-input=false", "-no-color") // of what is gone
}

// What can't work is refused before the machine is claimed or switched.
func TestImpossibleVariablesAreRefused(t *testing.T) {
	fish, env := newController(t, redfish.Options{OnPower: func(on bool, _ redfish.Boot) { t.Errorf("the machine is switched: on=%t", on) }})
	w := newWorkspace(t, env...)
	for what, c := range map[string]struct {
		change map[string]any
		want   string
	}{
		"no kernel":                {map[string]any{"kernel": nil}, "An installer needs kernel and initrd"},
		"no source":                {map[string]any{"source_url": nil}, "kickstart and preseed need source_url"},
		"no image":                 {map[string]any{"boot": "virtual_media"}, "needs boot_url"},
		"nothing to boot from":     {map[string]any{"boot": "floppy"}, "boot must be"},
		"a time that is none":      {map[string]any{"boot_timeout": "soon"}, "boot_timeout must be a length of time"},
		"a wipe from its own disk": {map[string]any{"wipe": map[string]string{"boot": "disk"}}, "wipe.boot must be"},
	} {
		w.vary(fish.URL(), c.change)
		out, err := w.run("apply", "-auto-approve", "-input=false", "-no-color")
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v; want %q in\n%s", what, err, c.want, out)
		}
		if fish.Tag() != "rack 4" {
			t.Errorf("%s: the tag is %q", what, fish.Tag())
		}
	}
}
