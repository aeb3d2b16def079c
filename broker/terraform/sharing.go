package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

const (
	// sharingVersion is hashed into the key of every provider host. Changing it
	// keeps this program from hosts that an earlier one has started.
	sharingVersion = "duffy-broker provider host 1"
	sharingDigits  = 16
	uniqueDigits   = 6

	// failedLog has the log of the host that failed last.
	failedLog = "failed.log"

	stopHostTimeout = 10 * time.Second
)

// hostLocks lets one goroutine at a time start or remove the hosts of a key.
type hostLocks struct {
	mu    sync.Mutex
	byKey map[string]*sync.Mutex
}

func (h *hostLocks) lock(key string) (unlock func()) {
	h.mu.Lock()
	if h.byKey == nil {
		h.byKey = map[string]*sync.Mutex{}
	}
	if h.byKey[key] == nil {
		h.byKey[key] = new(sync.Mutex)
	}
	m := h.byKey[key]
	h.mu.Unlock()
	m.Lock()
	return m.Unlock
}

func (e *Engine) hostsDir() string { return filepath.Join(e.Dir, "providers") }

// journal is where a provider host keeps what the run's creates have made.
func (r run) journal() string { return r.file("journal") }

// sharedProviders gives the environment that makes a run use shared provider
// processes, if its node is to. A run that can't have them starts its own, which
// costs more and is otherwise the same. The run's output must be locked.
func (e *Engine) sharedProviders(ctx context.Context, r run) ([]string, error) {
	if !r.node.ProviderSharing || !exists(filepath.Join(e.templatesDir(), r.node.Source.Template, ".terraform", "providers")) {
		return nil, nil
	}
	reattach, err := e.attach(ctx, r)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		e.Log.WarnContext(ctx, "no shared provider for a terraform run: it starts its own", "node", r.node.UID, "operation", r.operation, "error", err)
		return nil, nil
	}
	return []string{"TF_REATTACH_PROVIDERS=" + reattach}, nil
}

// attach attaches a run to a provider host of its configuration, and starts one
// where there is none that takes it.
func (e *Engine) attach(ctx context.Context, r run) (reattach string, err error) {
	key, err := e.sharingKey(r.node)
	if err != nil {
		return "", err
	}
	shared := provider.Run{Output: r.output(), Journal: r.journal()}
	if reattach, ok := e.attachToAny(ctx, key, shared); ok || ctx.Err() != nil {
		return reattach, ctx.Err()
	}
	defer e.hostLocks.lock(key)()
	if reattach, ok := e.attachToAny(ctx, key, shared); ok || ctx.Err() != nil {
		return reattach, ctx.Err() // another run has started one meanwhile
	}
	for _, dir := range e.hosts(key) {
		e.removeEnded(ctx, dir)
	}
	return e.startHost(ctx, r, key, shared)
}

// hosts lists the directories of the hosts of a key, or of all keys.
func (e *Engine) hosts(key string) []string {
	found, _ := filepath.Glob(filepath.Join(escapeGlob(e.hostsDir()), key+"*-*")) // only a bad pattern is an error
	return found
}

func (e *Engine) attachToAny(ctx context.Context, key string, shared provider.Run) (reattach string, ok bool) {
	for _, dir := range e.hosts(key) {
		reattach, err := provider.Attach(ctx, dir, shared)
		if err == nil {
			return reattach, true
		}
		if !errors.Is(err, provider.ErrNoHost) && ctx.Err() == nil {
			e.Log.WarnContext(ctx, "a provider host takes no run", "error", err)
		}
	}
	return "", false
}

func (e *Engine) startHost(ctx context.Context, r run, key string, shared provider.Run) (reattach string, err error) {
	dir := filepath.Join(e.hostsDir(), key+"-"+broker.NewUID()[:uniqueDigits])
	if longest := filepath.Join(dir, ownDir, "plugin0123456789"); len(longest) > maxSocketPath {
		return "", fmt.Errorf("the path of a socket would be longer than %d bytes: %s", maxSocketPath, longest)
	}
	// As a run's directory: providers are to find the module's files where they
	// find them without a host.
	if err := e.prepare(run{node: r.node, dir: dir}); err != nil {
		return "", err
	}
	env, err := e.environmentOf(r.node.RunEnvironment())
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	cmd, err := provider.Start(ctx, provider.Options{Dir: dir, Executable: e.Executable, Env: env, Limits: e.ProviderLimits})
	if err != nil {
		return "", errors.Join(fmt.Errorf("start a provider host: %w", err), os.RemoveAll(dir))
	}
	e.reap(cmd)
	reattach, err = provider.AttachFirst(ctx, dir, shared)
	if err != nil {
		e.removeEnded(ctx, dir)
		return "", err
	}
	e.Log.InfoContext(ctx, "provider host started", "pool", r.node.Pool, "directory", dir, "pid", cmd.Process.Pid)
	return reattach, nil
}

// reap waits for the end of a host, which may well come after this process.
func (e *Engine) reap(cmd *exec.Cmd) {
	e.reapers.Go(func() { _ = cmd.Wait() }) // how it ended is known from its directory
}

// removeEnded removes what a host left that came to a bad end; others leave
// nothing. The key must be locked.
func (e *Engine) removeEnded(ctx context.Context, dir string) {
	if alive, err := provider.Alive(dir); alive || err != nil {
		return
	}
	killStragglers(dir)
	kept := filepath.Join(e.hostsDir(), failedLog)
	if err := os.Rename(provider.Log(dir), kept); err == nil {
		e.Log.WarnContext(ctx, "a provider host has failed: its runs have, too; the next run gets a new one", "directory", dir, "log", kept)
	}
	if err := os.RemoveAll(dir); err != nil {
		e.Log.WarnContext(ctx, "the directory of a provider host can't be removed", "error", err)
	}
}

// tidyHosts removes what hosts of any key left.
func (e *Engine) tidyHosts(ctx context.Context) {
	for _, dir := range e.hosts("") {
		key, _, _ := strings.Cut(filepath.Base(dir), "-")
		unlock := e.hostLocks.lock(key)
		e.removeEnded(ctx, dir)
		unlock()
	}
}

// StopProviders ends the provider hosts that have no run. The others go on with
// their runs, and take those of the next broker.
func (e *Engine) StopProviders(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopHostTimeout)
	defer cancel()
	var problems []error
	for _, dir := range e.hosts("") {
		problems = append(problems, provider.Stop(ctx, dir))
	}
	e.tidyHosts(ctx)
	return errors.Join(problems...)
}

// sharingKey names the exact configuration of a node's providers: all that can
// make a difference to them, since the module is checked for depending on nothing
// else.
func (e *Engine) sharingKey(n broker.Node) (string, error) {
	variables, err := e.unsealVariables(n.Source)
	if err != nil {
		return "", fmt.Errorf("variables: %w", err)
	}
	hash := sha256.New()
	add := func(text string) { _, _ = fmt.Fprintf(hash, "%q\n", text) } // hashes take all
	add(sharingVersion)
	add(e.Binary.Path)
	add(e.Binary.Version)
	add(n.Source.Template)
	add(string(variables))
	env, err := e.environmentOf(n.RunEnvironment())
	if err != nil {
		return "", err
	}
	slices.Sort(env)
	for _, entry := range env {
		if name, _, _ := strings.Cut(entry, "="); !accidental(name) {
			add(entry)
		}
	}
	return hex.EncodeToString(hash.Sum(nil))[:sharingDigits], nil
}

// accidental tells whether a variable is about how the broker was started. The
// hosts of its predecessor are as good as its own.
func accidental(name string) bool {
	switch name {
	case "_", "SHLVL", "PWD", "OLDPWD", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID":
		return true
	}
	return false
}

// waitChanges waits for the changes of an ended run that its provider host still
// has under way. The host sees to it that they end.
func (e *Engine) waitChanges(ctx context.Context, r run) error {
	for {
		busy, err := provider.Locked(r.journal())
		if !busy || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// lockOutput locks the output of a new run. A provider host, or
// somebody who wants to follow the run, may be looking just now whether it is one.
func lockOutput(f *os.File) error {
	for range 100 {
		if err := lock(f, syscall.LOCK_EX); !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return &fs.PathError{Op: "lock", Path: f.Name(), Err: syscall.EWOULDBLOCK}
}
