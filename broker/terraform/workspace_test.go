package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// held gives a node that a person has.
func held(n broker.Node) broker.Node {
	n.ID, n.State = 12, broker.NodeHeld
	n.Hold = &broker.Hold{By: "admin", Since: time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC), From: broker.NodeReady}
	return n
}

func checkout(t *testing.T, e *Engine, n broker.Node, sealed []byte) string {
	t.Helper()
	dir, err := e.Checkout(n, sealed)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// byHand runs Terraform as a person does: no flags, no environment of the broker's.
func byHand(t *testing.T, e *Engine, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(e.Binary.Path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Plain Terraform works in a workspace, and what it did is taken back.
func TestWorkspaceByHand(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	child := `
module "child" {
  source = "./child"
}
`
	p := modulePool(t, nodeModule+child, map[string]any{"note": "a secret of the pool"})
	write(t, filepath.Join(p.Module, "child", "main.tf"), `resource "terraform_data" "part" { input = file("${path.module}/text") }`)
	write(t, filepath.Join(p.Module, "child", "text"), "text")
	p = prepared(t, e, p)
	n := broker.NewNode(p, time.Now())
	sealed := apply(t, e, n).State
	discard(t, e, n)
	n = held(n)

	if e.HasWorkspace(n) {
		t.Error("there is a workspace before it was asked for")
	}
	dir := checkout(t, e, n, sealed)
	if want := filepath.Join(e.Dir, "workspaces", n.UID); dir != want {
		t.Errorf("it is %s, want %s", dir, want)
	}
	for name, mode := range map[string]fs.FileMode{"": 0o700, stateFile: 0o600, workspaceVariables: 0o600, workspaceReadme: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: mode %v, %v; want %v", name, info.Mode().Perm(), err, mode)
		}
	}
	for _, text := range []string{"node 12", "--return 12", e.Binary.Path, e.Executable} {
		if !strings.Contains(read(t, filepath.Join(dir, workspaceReadme)), text) {
			t.Errorf("the README does not say %q", text)
		}
	}
	if out := byHand(t, e, dir, "state", "list"); !strings.Contains(out, "terraform_data.node\nmodule.child.terraform_data.part\n") {
		t.Errorf("state list says %q", out)
	}
	if out := byHand(t, e, dir, "plan", "-no-color"); !strings.Contains(out, "No changes") {
		t.Errorf("plan says %s", out)
	}
	if w, err := e.Return(n, sealed); err != nil || w.Resources != 2 || w.Newer {
		t.Errorf("nothing was done, and it gives %d resources, newer: %t, %v", w.Resources, w.Newer, err)
	}

	// Whatever is done there stays there.
	before := tree(t, e.templatesDir())
	write(t, filepath.Join(dir, "child", "text"), "changed by hand")
	byHand(t, e, dir, "init", "-upgrade")
	byHand(t, e, dir, "apply", "-auto-approve", "-target=module.child")
	byHand(t, e, dir, "workspace", "new", "other")
	byHand(t, e, dir, "workspace", "select", "default")
	if after := tree(t, e.templatesDir()); !slices.Equal(before, after) {
		t.Errorf("the kept modules have changed:\n%v\n%v", before, after)
	}
	if again := checkout(t, e, n, sealed); again != dir || read(t, filepath.Join(dir, "child", "text")) != "changed by hand" {
		t.Errorf("asked again, it is another: %s", again)
	}
	w, err := e.Return(n, sealed)
	if err != nil || w.Resources != 2 || !w.Newer {
		t.Fatalf("after an apply it gives %d resources, newer: %t, %v", w.Resources, w.Newer, err)
	}
	for _, path := range filesWith(t, e.Dir, "a secret of the pool") {
		if !strings.HasPrefix(path, dir) {
			t.Errorf("the secret is in %s", path)
		}
	}

	byHand(t, e, dir, "destroy", "-auto-approve")
	w, err = e.Return(n, sealed)
	if err != nil || w.Resources != 0 || w.State == nil {
		t.Fatalf("after a destroy it gives %d resources, %v", w.Resources, err)
	}
	for range 2 {
		if err := e.DiscardWorkspace(n); err != nil || exists(dir) {
			t.Fatalf("discarded: %v, there: %t", err, exists(dir))
		}
	}
	// What is taken back is a state like any other.
	calls := filepath.Join(e.runsDir(), n.UID)
	destroy(t, e, n, w.State)
	if exists(calls) {
		t.Error("the broker ran a destroy though nothing was left")
	}
}

// tree lists what is below dir, with sizes and times.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all = append(all, fmt.Sprintln(path, info.Mode(), info.Size(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A state that can't be the node's is refused, and stays where it is.
func TestReturnJudgesTheState(t *testing.T) {
	state := func(serial int, lineage, resources string) string {
		return strings.Replace(fmt.Sprintf(fakeState, serial, resources), `"L"`, `"`+lineage+`"`, 1)
	}
	tests := map[string]struct {
		stored, run    string // "" for none
		found, errored string // what is left there; "-" for no file
		want           string // of the error
		resources      int
		newer          bool
	}{
		"as it was":                         {stored: state(2, "L", fakeResource), found: state(2, "L", fakeResource), resources: 1},
		"newer":                             {stored: state(2, "L", fakeResource), found: state(3, "L", ""), newer: true},
		"older":                             {stored: state(2, "L", fakeResource), found: state(1, "L", fakeResource), want: "serial 1"},
		"older than that of a run":          {stored: state(2, "L", fakeResource), run: state(4, "L", fakeResource), found: state(3, "L", ""), want: "serial 3"},
		"of another lineage":                {stored: state(2, "L", fakeResource), found: state(9, "M", fakeResource), want: `lineage "M"`},
		"empty":                             {stored: state(2, "L", fakeResource), found: " ", want: "the state file is empty"},
		"cut":                               {stored: state(2, "L", fakeResource), found: state(2, "L", fakeResource)[:50], want: "can't be read"},
		"gone":                              {stored: state(2, "L", fakeResource), found: "-", want: "there is no state file"},
		"written elsewhere":                 {stored: state(2, "L", fakeResource), found: " ", errored: state(3, "L", ""), newer: true},
		"written elsewhere, and mended":     {stored: state(2, "L", fakeResource), found: state(5, "L", fakeResource), errored: state(3, "L", ""), resources: 1, newer: true},
		"written nowhere":                   {stored: state(2, "L", fakeResource), found: state(2, "L", fakeResource), errored: " ", want: "errored.tfstate: the state file is empty"},
		"nothing was ever made":             {found: "-"},
		"nothing was recorded, and is":      {found: state(1, "M", fakeResource), resources: 1, newer: true},
		"nothing was recorded, nor is":      {found: state(1, "M", "")},
		"nothing was recorded, and damaged": {found: "{", want: "can't be read"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, n := fakeEngine(t, "", "")
			n = held(n)
			var sealed []byte
			if tt.stored != "" {
				sealed = e.Keyring.Seal(statePurpose, n.UID, []byte(tt.stored))
			}
			if tt.run != "" {
				write(t, filepath.Join(e.runsDir(), n.UID, stateFile), tt.run)
			}
			dir := checkout(t, e, n, sealed)
			for file, content := range map[string]string{stateFile: tt.found, erroredFile: tt.errored} {
				path := filepath.Join(dir, file)
				switch {
				case content == "-":
					_ = os.Remove(path) // it may not be there
				case content != "":
					write(t, path, content)
				}
			}
			w, err := e.Return(n, sealed)
			if tt.want != "" {
				wantError(t, err, "node 12", tt.want)
				if broker.CodeOf(err) != broker.CodeConflict || !strings.Contains(broker.HintOf(err), "--discard") {
					t.Errorf("code %s, hint %q", broker.CodeOf(err), broker.HintOf(err))
				}
			} else if err != nil {
				t.Error(err)
			}
			if w.Resources != tt.resources || w.Newer != tt.newer {
				t.Errorf("got %d resources, newer: %t; want %d, %t", w.Resources, w.Newer, tt.resources, tt.newer)
			}
			if sealed == nil && tt.resources == 0 && w.State != nil {
				t.Error("there is a state though nothing was ever recorded")
			}
			if w.State != nil {
				plain, err := e.Keyring.Open(statePurpose, n.UID, w.State)
				if err != nil || string(plain) != tt.found && string(plain) != tt.errored {
					t.Errorf("the state is %q, %v", plain, err)
				}
			}
			if tt.found != "-" && tt.found != read(t, filepath.Join(dir, stateFile)) {
				t.Error("the state in the workspace has changed")
			}
		})
	}
}

// A workspace begins with the newest state that is known, wherever a crash left it.
func TestCheckoutTakesTheNewestState(t *testing.T) {
	state := func(serial int, resource string) string {
		return fmt.Sprintf(fakeState, serial, strings.Replace(fakeResource, `"node"`, `"`+resource+`"`, 1))
	}
	tests := map[string]struct {
		stored, run, left string
		want              string // "" for no state
	}{
		"the stored one":              {stored: state(2, "stored"), want: "fake.stored"},
		"of a run":                    {stored: state(2, "stored"), run: state(3, "run"), want: "fake.run"},
		"of an older run":             {stored: state(2, "stored"), run: state(1, "run"), want: "fake.stored"},
		"of an earlier workspace":     {stored: state(2, "stored"), run: state(3, "run"), left: state(4, "left"), want: "fake.left"},
		"of one that was given back":  {stored: state(2, "stored"), left: state(2, "left"), want: "fake.stored"},
		"of an earlier one, damaged":  {stored: state(2, "stored"), left: "{", want: "fake.stored"},
		"of an earlier one alone":     {left: state(2, "left"), want: "fake.left"},
		"nothing was ever made of it": {},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, n := fakeEngine(t, "", "")
			n = held(n)
			var sealed []byte
			if tt.stored != "" {
				sealed = e.Keyring.Seal(statePurpose, n.UID, []byte(tt.stored))
			}
			if tt.run != "" {
				write(t, filepath.Join(e.runsDir(), n.UID, stateFile), tt.run)
			}
			if tt.left != "" {
				earlier := n
				earlier.Hold = &broker.Hold{Since: n.Hold.Since.Add(-time.Hour)}
				write(t, filepath.Join(checkout(t, e, earlier, nil), stateFile), tt.left)
			}
			if e.HasWorkspace(n) {
				t.Error("that of an earlier hold counts as one of this")
			}
			dir := checkout(t, e, n, sealed)
			got, err := readState(filepath.Join(dir, stateFile))
			if tt.want == "" {
				if !errors.Is(err, errNoState) {
					t.Errorf("got %v, want no state", err)
				}
				return
			}
			if err != nil || !slices.Equal(got.resources(), []string{tt.want}) {
				t.Errorf("got %v, %v; want %s", got.resources(), err, tt.want)
			}
			if uids, err := e.Workspaces(); err != nil || !slices.Equal(uids, []string{n.UID}) {
				t.Errorf("workspaces %v, %v", uids, err)
			}
		})
	}
}

// Nothing is taken, and nothing removed, while Terraform is at work there.
func TestReturnWaitsForTerraform(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	gates := t.TempDir()
	write(t, filepath.Join(gates, "create-go"), "")
	p := prepared(t, e, modulePool(t, nodeModule, map[string]any{"gates": gates}))
	n := broker.NewNode(p, time.Now())
	sealed := apply(t, e, n).State
	discard(t, e, n)
	n = held(n)
	dir := checkout(t, e, n, sealed)
	cmd := exec.Command(e.Binary.Path, "destroy", "-auto-approve")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForFile(t, filepath.Join(gates, "destroy-began"))
	_, err := e.Return(n, sealed)
	wantError(t, err, fmt.Sprintf("terraform is at work in the workspace of node 12, as process %d", cmd.Process.Pid))
	wantError(t, e.DiscardWorkspace(n), "at work")
	if broker.CodeOf(err) != broker.CodeConflict || !exists(dir) {
		t.Errorf("code %s, there: %t", broker.CodeOf(err), exists(dir))
	}
	write(t, filepath.Join(gates, "destroy-go"), "")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if w, err := e.Return(n, sealed); err != nil || w.Resources != 0 || !w.Newer {
		t.Errorf("got %+v, %v", w, err)
	}
}

// A workspace that can't be made leaves nothing behind, and says what is missing.
func TestCheckoutWithoutModule(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	n = held(n)
	n.Source.Template = "gone"
	_, err := e.Checkout(n, nil)
	wantError(t, err, `the kept module copy "gone"`)
	if broker.CodeOf(err) != broker.CodeUnavailable {
		t.Errorf("code %s", broker.CodeOf(err))
	}
	if entries, err := os.ReadDir(e.workspacesDir()); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := e.Checkout(held(broker.Node{UID: "../x"}), nil); err == nil || exists(filepath.Join(e.Dir, "x")) {
		t.Errorf("a uid with a path in it: %v", err)
	}
	if err := e.DiscardWorkspace(broker.Node{UID: ".."}); err == nil {
		t.Error("the data directory would be removed")
	}
}

// Modules and providers of others come along, whether they are in the kept module
// or links to a mirror.
func TestLinkWorkingDir(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), ".terraform"), filepath.Join(t.TempDir(), ".terraform")
	provider := filepath.Join("providers", "registry.example", "ns", "name", "1.0.0")
	write(t, filepath.Join(from, provider, "linux_amd64", "terraform-provider-name"), "program")
	if err := os.Symlink(filepath.Join(from, provider, "linux_amd64"), filepath.Join(from, provider, "other_arm")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(from, "modules", "modules.json"), "{}")
	write(t, filepath.Join(from, "modules", "child", "main.tf"), "module")
	if err := linkWorkingDir(from, to); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]fs.FileMode{
		provider: fs.ModeDir, filepath.Join(provider, "linux_amd64"): fs.ModeSymlink, filepath.Join(provider, "other_arm"): fs.ModeSymlink,
		"modules": fs.ModeDir, "modules/modules.json": 0, "modules/child": fs.ModeSymlink,
	}
	for name, want := range kinds {
		info, err := os.Lstat(filepath.Join(to, name))
		if err != nil || info.Mode().Type() != want {
			t.Errorf("%s is %v, %v; want %v", name, info.Mode().Type(), err, want)
		}
	}
	for _, name := range []string{"linux_amd64/terraform-provider-name", "other_arm/terraform-provider-name"} {
		if got := read(t, filepath.Join(to, provider, name)); got != "program" {
			t.Errorf("%s is %q", name, got)
		}
	}
	if got := read(t, filepath.Join(to, "modules", "child", "main.tf")); got != "module" {
		t.Errorf("the module is %q", got)
	}
	if err := linkWorkingDir(filepath.Join(from, "nothing"), filepath.Join(to, "nothing")); err != nil {
		t.Errorf("a module that needs nothing: %v", err)
	}
}

func TestReadWorkspace(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	n = held(n)
	dir := checkout(t, e, n, nil)
	w, err := ReadWorkspace(dir)
	if err != nil || w.NodeID != 12 || w.NodeUID != n.UID || !w.Hold.Equal(n.Hold.Since) || w.Terraform != e.Binary.Path || w.Executable != e.Executable {
		t.Errorf("got %+v, %v", w, err)
	}
	if _, err := ReadWorkspace(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an ordinary directory gives %v", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, workspaceVariables))), &all); err != nil || all["broker"] == nil {
		t.Errorf("variables %v, %v", all, err)
	}
}

// Runs of all kinds are waited for.
func TestSettleKinds(t *testing.T) {
	for _, operation := range []string{opApply, opImport, opDestroy} {
		e, n := fakeEngine(t, "", "")
		path := filepath.Join(e.runsDir(), n.UID, ownDir, operation+".json")
		write(t, path, "")
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := lock(f, syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := e.Settle(short, n); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while an %s runs: %v", operation, err)
		}
		cancel()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := e.Settle(t.Context(), n); err != nil {
			t.Errorf("after an %s: %v", operation, err)
		}
	}
}

// Settle waits for the runs of an earlier process, and begins none.
func TestSettle(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "go")
	e, n := fakeEngine(t, "", "until test -e "+gate+"; do sleep 0.01; done; state '"+stateGone+"'; summary destroy")
	if err := e.Settle(t.Context(), n); err != nil || exists(e.runsDir()) {
		t.Errorf("of a node without runs: %v", err)
	}
	sealed := e.Keyring.Seal(statePurpose, n.UID, []byte(stateMade))
	ctx, stop := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := e.Destroy(ctx, n, sealed)
		gone <- err
	}()
	waitForFile(t, filepath.Join(e.runsDir(), n.UID, "calls"))
	stop()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the destroy was left alone with %v", err)
	}
	next := engineIn(t, e.Dir, e.Binary.Path)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := next.Settle(short, n); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it runs: %v", err)
	}
	write(t, gate, "")
	if err := next.Settle(t.Context(), n); err != nil {
		t.Error(err)
	}
	if got := strings.Count(read(t, filepath.Join(e.runsDir(), n.UID, "calls")), "\n"); got != 1 {
		t.Errorf("%d runs, want the one that was in progress", got)
	}
	if dir := checkout(t, next, held(n), sealed); read(t, filepath.Join(dir, stateFile)) != stateGone+"\n" {
		t.Error("the workspace does not begin with what that run left")
	}
}
