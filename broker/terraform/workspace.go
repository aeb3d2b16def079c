package terraform

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// workspaceVariables is loaded by Terraform without being asked for.
	workspaceVariables = "duffy.auto.tfvars.json"
	workspaceReadme    = "README.txt"
	workspaceRecord    = "workspace.json"

	// packageDepth is how far below .terraform/providers the directory of a
	// provider is: HOST/NAMESPACE/NAME/VERSION/PLATFORM.
	packageDepth = 5
)

const workspaceText = `This is the Terraform workspace of node %[1]d of pool %[2]q (uid %[3]s).
duffy-broker holds the node, and does nothing to it until the workspace is
returned. The state in this directory is the only one that counts meanwhile.

Terraform:     %[4]s
Environment:   export DUFFY_BROKER=%[5]s
%[6]s               and what the broker's own has for it: credentials, proxies, TF_CLI_CONFIG_FILE

  terraform state list
  terraform plan
  terraform destroy

The module and the variables are copies: changes of them end with the directory.
Files here hold secrets in clear.

To give the node back, with the state as it is then:

  duffy-broker node workspace --return %[1]d

To forget what was done here:

  duffy-broker node workspace --return --discard %[1]d
`

// Workspace says what a directory is that [Engine.Checkout] wrote.
type Workspace struct {
	NodeID  int64     `json:"node_id"`
	NodeUID string    `json:"node_uid"`
	Hold    time.Time `json:"hold"` // Since of the hold that it belongs to
	// Terraform is the program to use, and Executable what modules want to find in
	// the environment as DUFFY_BROKER.
	Terraform  string `json:"terraform"`
	Executable string `json:"executable"`
}

// ReadWorkspace tells which workspace is in a directory; [fs.ErrNotExist] if none is.
func ReadWorkspace(dir string) (Workspace, error) {
	var w Workspace
	text, err := os.ReadFile(filepath.Join(dir, ownDir, workspaceRecord)) //nolint:gosec // a directory that the caller names
	if err != nil {
		return w, err
	}
	if err := json.Unmarshal(text, &w); err != nil {
		return w, fmt.Errorf("%s is no workspace: %w", dir, err)
	}
	return w, nil
}

var _ broker.Workspacer = (*Engine)(nil)

func (e *Engine) workspacesDir() string { return filepath.Join(e.Dir, "workspaces") }

// HasWorkspace implements [broker.Workspacer].
func (e *Engine) HasWorkspace(n broker.Node) bool {
	w, err := ReadWorkspace(filepath.Join(e.workspacesDir(), n.UID))
	return err == nil && w.NodeUID == n.UID && n.Hold != nil && w.Hold.Equal(n.Hold.Since)
}

// Workspaces implements [broker.Workspacer].
func (e *Engine) Workspaces() ([]string, error) {
	entries, err := os.ReadDir(e.workspacesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("workspaces: %w", err)
	}
	var uids []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), unfinishedPrefix) {
			uids = append(uids, entry.Name())
		}
	}
	return uids, nil
}

// Checkout implements [broker.Workspacer]. The directory has a copy of the module
// and a working directory of its own with links to the providers, so that nothing
// that is done there reaches other nodes.
func (e *Engine) Checkout(n broker.Node, sealed []byte) (dir string, err error) {
	stored, err := e.unseal(n, sealed)
	if err != nil {
		return "", fmt.Errorf("workspace of node %s: %w", n.UID, err)
	}
	r, err := e.run(n, opDestroy)
	if err != nil {
		return "", err
	}
	dir = filepath.Join(e.workspacesDir(), n.UID)
	if e.HasWorkspace(n) {
		return dir, nil
	}
	s := r.recorded(stored)
	// A directory of an earlier hold, that a crash left, should know nothing newer.
	if left, err := newestState(dir); err == nil && (s == nil || left.Lineage == s.Lineage && left.Serial > s.Serial) {
		s = left
	}
	if err := os.MkdirAll(e.workspacesDir(), 0o700); err != nil {
		return "", fmt.Errorf("workspace of node %s: %w", n.UID, err)
	}
	fresh := filepath.Join(e.workspacesDir(), unfinishedPrefix+n.UID)
	defer func() { _ = os.RemoveAll(fresh) }() // gone already, if all went well
	err = errors.Join(os.RemoveAll(fresh), os.Mkdir(fresh, 0o700))
	if err == nil {
		err = e.fillWorkspace(fresh, n, s)
	}
	if err == nil {
		err = errors.Join(os.RemoveAll(dir), os.Rename(fresh, dir))
	}
	if broker.CodeOf(err) == broker.CodeUnavailable {
		return "", err
	}
	if err != nil {
		return "", broker.Wrap(broker.CodeUnavailable, err, "the workspace of node %d can't be written to the broker's data directory", n.ID).
			WithHint("the broker's log says why; the node stays held")
	}
	return dir, nil
}

func (e *Engine) fillWorkspace(dir string, n broker.Node, s *state) error {
	template, err := e.keptTemplate(n)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.nodesDir(), 0o700); err != nil { // as for runs
		return err
	}
	if err := copyTree(template, dir); err != nil {
		return err
	}
	if err := linkWorkingDir(filepath.Join(template, ".terraform"), filepath.Join(dir, ".terraform")); err != nil {
		return err
	}
	variables, err := e.variables(n)
	if err != nil {
		return err
	}
	record, err := json.Marshal(Workspace{NodeID: n.ID, NodeUID: n.UID, Hold: n.Hold.Since, Terraform: e.Binary.Path, Executable: e.Executable})
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, ownDir), 0o700); err != nil {
		return err
	}
	files := map[string][]byte{
		workspaceVariables:                     variables,
		workspaceReadme:                        fmt.Appendf(nil, workspaceText, n.ID, n.Pool, n.UID, e.Binary.Path, e.Executable, exports(n.RunEnvironment())),
		filepath.Join(ownDir, workspaceRecord): record,
	}
	if s != nil {
		files[stateFile] = s.raw
	}
	for name, content := range files {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// linkWorkingDir makes a copy of an initialised module's .terraform in which the
// packages are links: `terraform init` replaces links and files, and never what is
// behind them.
func linkWorkingDir(from, to string) error {
	depths := map[string]int{"providers": packageDepth, "modules": 1}
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing to install
	}
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if err := linkTree(filepath.Join(from, name), filepath.Join(to, name), depths[name]); err != nil {
			return err
		}
	}
	return nil
}

// linkTree copies directories down to a depth, and the files in them; what is
// below becomes links.
func linkTree(from, to string, depth int) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		return copyOut(from, to)
	case !info.IsDir() || depth == 0:
		target, err := filepath.Rel(filepath.Dir(to), from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, entry := range entries {
		if err := linkTree(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()), depth-1); err != nil {
			return err
		}
	}
	return nil
}

func copyOut(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // a file of ours
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // a file of ours
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Return implements [broker.Workspacer].
func (e *Engine) Return(n broker.Node, sealed []byte) (broker.WorkspaceState, error) {
	refuse := func(format string, args ...any) (broker.WorkspaceState, error) {
		return broker.WorkspaceState{}, broker.Errorf(broker.CodeConflict, "the workspace of node %d can't be taken back: %s", n.ID, fmt.Sprintf(format, args...)).
			WithHint("nothing was changed. Put a state of this node to terraform.tfstate there (terraform.tfstate.backup may be one) and return it again; " +
				"or give up what was done there with --discard")
	}
	stored, err := e.unseal(n, sealed)
	if err != nil {
		return broker.WorkspaceState{}, fmt.Errorf("workspace of node %s: %w", n.UID, err)
	}
	r, err := e.run(n, opDestroy)
	if err != nil {
		return broker.WorkspaceState{}, err
	}
	before := r.recorded(stored)
	dir := filepath.Join(e.workspacesDir(), n.UID)
	if err := e.checkIdle(n); err != nil {
		return broker.WorkspaceState{}, err
	}
	// Terraform writes there what it could not write to its own place.
	if _, err := readState(filepath.Join(dir, erroredFile)); err != nil && !errors.Is(err, errNoState) {
		return refuse("%s: %v", erroredFile, err)
	}
	s, err := newestState(dir)
	switch {
	case errors.Is(err, errNoState) && before == nil:
		return broker.WorkspaceState{}, nil
	case err != nil:
		return refuse("%s: %v", stateFile, err)
	case before != nil && s.Lineage != before.Lineage:
		return refuse("its state has the lineage %q, and that of the node is %q: it belongs to something else", s.Lineage, before.Lineage)
	case before != nil && s.Serial < before.Serial:
		return refuse("its state has the serial %d, and the one that it began with has %d: it is older", s.Serial, before.Serial)
	case before == nil && len(s.resources()) == 0:
		return broker.WorkspaceState{}, nil
	}
	return broker.WorkspaceState{
		// Sealed though it may record nothing: it tells that an older one is not true any more.
		State:     e.Keyring.Seal(statePurpose, n.UID, s.raw),
		Resources: len(s.resources()),
		Newer:     before == nil || s.Serial > before.Serial,
	}, nil
}

// DiscardWorkspace implements [broker.Workspacer]. It refuses while Terraform is at
// work there.
func (e *Engine) DiscardWorkspace(n broker.Node) error {
	if _, err := e.run(n, opDestroy); err != nil {
		return err // no valid uid
	}
	if err := e.checkIdle(n); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(e.workspacesDir(), n.UID)); err != nil {
		return fmt.Errorf("workspace of node %s: %w", n.UID, err)
	}
	return nil
}

// checkIdle gives an error while a Terraform holds its lock on the state in the
// workspace of a node.
func (e *Engine) checkIdle(n broker.Node) error {
	f, err := os.OpenFile(filepath.Join(e.workspacesDir(), n.UID, stateFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("workspace of node %s: %w", n.UID, err)
	}
	defer func() { _ = f.Close() }()
	// Another lock than that of runs: fcntl(2).
	held := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &held); err != nil {
		return fmt.Errorf("workspace of node %s: lock of the state: %w", n.UID, err)
	}
	if held.Type != syscall.F_UNLCK {
		return broker.Errorf(broker.CodeConflict, "terraform is at work in the workspace of node %d, as process %d", n.ID, held.Pid).
			WithHint("wait for its end, and return the workspace then")
	}
	return nil
}

// exports tells a person what to set for the environment of a node. Secrets are
// named, not shown.
func exports(own broker.Environment) string {
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(own.Environ)) {
		_, _ = fmt.Fprintf(&lines, "               export %s=%q\n", name, own.Environ[name])
	}
	for _, name := range slices.Sorted(maps.Keys(own.Credentials)) {
		_, _ = fmt.Fprintf(&lines, "               export %s=...  # the secret of %s\n", name, own.Credentials[name])
	}
	return lines.String()
}
