package terraform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

const (
	// ownDir holds the broker's own files in run directories and templates.
	ownDir = ".duffy"

	// interruptedMark is made before a run gets its one interrupt: a second one
	// would make Terraform exit at once and leak what it is making.
	interruptedMark = "interrupted"
	killedMark      = "killed"

	// pollInterval is how often the end of a run is looked for that is no child
	// of this process.
	pollInterval = 100 * time.Millisecond
	// killInterval is how often a run is killed that survives it.
	killInterval = time.Second
	// stderrShown is how much of the standard error is quoted where Terraform
	// gave no proper error.
	stderrShown = 1000

	// pluginGone is what Terraform says when a provider dies in the middle of a
	// call: nobody knows what came of it.
	pluginGone = "Plugin did not respond"
)

// run is one operation on one node, running or not, with its directory.
type run struct {
	node      broker.Node
	operation string
	dir       string
	timeout   time.Duration
	mask      func(states ...*state) replacer // takes secrets out of texts
}

func (e *Engine) run(n broker.Node, operation string) (run, error) {
	// An empty uid or one with a path in it would make Discard remove other
	// nodes' directories.
	if n.UID == "" || n.UID == "." || n.UID == ".." || n.UID != filepath.Base(n.UID) {
		return run{}, fmt.Errorf("node %d has no valid uid: %q", n.ID, n.UID)
	}
	if operation == opPlan && n.Identity == nil { // of no node that there is
		n.Identity = e.NewIdentity(n.UID)
	}
	timeout := n.CreateTimeout
	if operation != opApply {
		timeout = n.DestroyTimeout
	}
	return run{node: n, operation: operation, dir: filepath.Join(e.runsDir(), n.UID), timeout: timeout, mask: e.maskOf(n)}, nil
}

func (r run) file(kind string) string {
	return filepath.Join(r.dir, ownDir, r.operation+"."+kind)
}
func (r run) output() string { return r.file("json") }
func (r run) stderr() string { return r.file("stderr") }

// variables is on the run's command line, and so identifies its process. Its
// modification time is the run's begin.
func (r run) variables() string { return r.file("tfvars.json") }

// maxSocketPath is how long the path of a Unix socket may be: 104 bytes with the
// final zero on macOS, a few more on Linux (unix(4), unix(7)).
const maxSocketPath = 103

// socketDir is where the run's plugins may listen. Terraform and its plugins
// make keys and certificates for each other at every start, which is two fifths
// of the CPU of a run; behind a directory that only this user can enter they need
// none. False where the path would be too long for a socket: then TLS stays on.
func (r run) socketDir() (string, bool) {
	dir := r.file("sock")
	return dir, len(dir)+len("/plugin0123456789") <= maxSocketPath
}

// before is the state that a destroy began with.
func (r run) before() string { return r.file("before.tfstate") }

// started tells whether the run was begun, at any time, by any process.
func (r run) started() bool { return exists(r.output()) }

func (r run) marked(mark string) bool { return exists(r.file(mark)) }

// alive tells whether the run is going on: see "Detached runs" in the package comment.
func (r run) alive() (bool, error) {
	f, err := os.Open(r.output())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // gives the lock back, if we got it
	err = lock(f, syscall.LOCK_SH)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return provider.Locked(r.journal())
}

// lock takes a lock without waiting; EWOULDBLOCK if somebody else holds it.
func lock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// recorded gives the newest state known of the node: stored, or what a crash
// left in the run directory, if it is of the same lineage and not older. nil if
// there is none. A state file that a crash left empty or damaged does not count:
// an older one is better than none.
func (r run) recorded(stored *state) *state {
	best := stored
	before, beforeErr := readState(r.before())
	found, foundErr := newestState(r.dir)
	for _, other := range []struct {
		state *state
		err   error
	}{{before, beforeErr}, {found, foundErr}} {
		if other.err != nil {
			continue
		}
		if best == nil || other.state.Lineage == best.Lineage && other.state.Serial >= best.Serial {
			best = other.state
		}
	}
	return best
}

// putState makes s the state of the run directory, and keeps a copy, since a
// kill can leave Terraform's own file empty.
func (r run) putState(s *state) error {
	if err := writeFile(r.before(), s.raw); err != nil {
		return err
	}
	path := filepath.Join(r.dir, stateFile)
	if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, s.raw) { //nolint:gosec // a file of ours
		if err := writeFile(path, s.raw); err != nil {
			return err
		}
	}
	return removeIfExists(filepath.Join(r.dir, erroredFile))
}

// failed makes the error of a run, without any secret.
func (r run) failed(err error, s *state) error {
	class := broker.FailureClassOf(err)
	if text := r.mask(s).Replace(err.Error()); text != err.Error() {
		err = errors.New(text)
	}
	return &broker.Failure{Class: class, Err: fmt.Errorf("terraform %s of node %s: %w", r.operation, r.node.UID, err)}
}

// prepare makes the run directory: links to all of the template.
func (e *Engine) prepare(r run) error {
	template, err := e.keptTemplate(r.node)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(template)
	if err = errors.Join(err, e.refreshOwn(template)); err != nil {
		return fmt.Errorf("node %s: %w", r.node.UID, err)
	}
	for _, dir := range []string{filepath.Join(r.dir, ownDir), e.nodesDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("node %s: %w", r.node.UID, err)
		}
	}
	// Relative, so that the data directory can be moved.
	up, err := filepath.Rel(r.dir, template)
	if err != nil {
		return fmt.Errorf("node %s: %w", r.node.UID, err)
	}
	for _, entry := range entries {
		if entry.Name() == ownDir {
			continue
		}
		err := os.Symlink(filepath.Join(up, entry.Name()), filepath.Join(r.dir, entry.Name()))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("node %s: %w", r.node.UID, err)
		}
	}
	return nil
}

// keptTemplate gives the directory of the module that a node is made from.
func (e *Engine) keptTemplate(n broker.Node) (string, error) {
	template := filepath.Join(e.templatesDir(), n.Source.Template)
	if n.Source.Template == "" || !exists(template) {
		return "", broker.Errorf(broker.CodeUnavailable, "node %s: the kept module copy %q that it is made from is not in %s",
			n.UID, n.Source.Template, e.templatesDir()).
			WithHint("restore that directory from a backup, or put back the module as it was and reload")
	}
	return template, nil
}

// process is a run that this process started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end
	err  error         // of Wait; valid once done is closed
}

// start begins the run, detached from this process and from ctx. It waits at the
// gate first; if ctx ends there, nothing was begun.
func (e *Engine) start(ctx context.Context, r run, flags ...string) error {
	if err := e.gate.enter(ctx); err != nil {
		return err
	}
	begun := false
	defer func() {
		if !begun {
			e.gate.leave()
		}
	}()
	fail := func(err error) error { return r.failed(fmt.Errorf("start: %w", err), nil) }
	variables, err := e.variables(r.node)
	if err != nil {
		return fail(err)
	}
	env, err := e.environmentOf(r.node.RunEnvironment())
	if err != nil {
		return fail(err)
	}
	for _, mark := range []string{interruptedMark, killedMark} {
		if err := removeIfExists(r.file(mark)); err != nil {
			return fail(err)
		}
	}
	if err := writeFile(r.variables(), variables); err != nil {
		return fail(err)
	}
	stderr, err := os.OpenFile(r.stderr(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = stderr.Close() }()
	output, err := r.newOutput()
	if err != nil {
		return fail(err)
	}
	defer func() { _ = output.Close() }()

	args := []string{r.operation, "-input=false", "-no-color", "-var-file=" + r.variables()}
	if r.operation != opImport { // it has no such flag
		args = append(args, "-json")
	}
	args = append(args, flags...)
	// Beyond ctx: the run outlives the caller.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), e.Binary.Path, args...) //nolint:gosec // the operator names the program
	cmd.Dir = r.dir
	cmd.Env = env
	if dir, ok := r.socketDir(); ok {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fail(err)
		}
		cmd.Env = append(cmd.Env, "TF_DISABLE_PLUGIN_TLS=1", "PLUGIN_UNIX_SOCKET_DIR="+dir)
	}
	shared, err := e.sharedProviders(ctx, r)
	if err != nil {
		return errors.Join(fail(err), removeIfExists(r.output())) // nothing was begun
	}
	cmd.Env = append(cmd.Env, shared...)
	cmd.Stdout = output
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		// Nothing was begun: the next try may start it.
		return errors.Join(fail(err), removeIfExists(r.output()))
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	e.mu.Lock()
	e.processes[r.output()] = p
	e.mu.Unlock()
	e.reapers.Go(func() {
		p.err = cmd.Wait()
		// Terraform leaves plugins and commands behind when it dies.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		close(p.done)
	})
	begun = true
	e.reapers.Go(func() { e.gate.leaveAfter(r.output(), p.done) })
	e.Log.DebugContext(ctx, "terraform run started", "node", r.node.UID, "operation", r.operation, "pid", cmd.Process.Pid)
	return nil
}

func (e *Engine) process(r run) *process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.processes[r.output()]
}

// wait returns nil at the end of the run, at once if it was never started, and
// ctx's error when that ends first. While it waits it enforces the timeout.
func (e *Engine) wait(ctx context.Context, r run) error {
	p := e.process(r)
	if p == nil {
		return e.waitForeign(ctx, r)
	}
	for {
		select {
		case <-p.done:
			return e.waitChanges(ctx, r)
		default:
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(e.enforce(ctx, r, p)):
		}
	}
}

// waitForeign waits for a run that an earlier process started.
func (e *Engine) waitForeign(ctx context.Context, r run) error {
	if !r.started() {
		return nil
	}
	for adopted := false; ; adopted = true {
		alive, err := r.alive()
		if err != nil {
			return r.failed(err, nil)
		}
		if !alive {
			killStragglers(r.dir)
			return nil
		}
		if !adopted {
			e.Log.InfoContext(ctx, "terraform run of an earlier process adopted", "node", r.node.UID, "operation", r.operation)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(pollInterval, e.enforce(ctx, r, nil))):
		}
	}
}

// enforce does what is due to a run that takes too long, and says after which
// time to look again: one interrupt at its timeout, a kill when the grace is over.
func (e *Engine) enforce(ctx context.Context, r run, p *process) time.Duration {
	begin, err := os.Stat(r.variables())
	if r.timeout <= 0 || err != nil {
		return time.Hour
	}
	interrupted, err := os.Stat(r.file(interruptedMark))
	if err != nil {
		if left := time.Until(begin.ModTime().Add(r.timeout)); left > 0 {
			return left
		}
		if err := writeFile(r.file(interruptedMark), nil); err != nil {
			e.Log.ErrorContext(ctx, "terraform run is beyond its timeout and can't be marked as interrupted", "node", r.node.UID, "error", err)
			return killInterval
		}
		e.Log.WarnContext(ctx, "terraform run is beyond its timeout: interrupting it",
			"node", r.node.UID, "operation", r.operation, "timeout", r.timeout, "grace", e.Grace)
		r.signal(ctx, p, syscall.SIGINT)
		return e.Grace
	}
	if left := time.Until(interrupted.ModTime().Add(e.Grace)); left > 0 {
		return left
	}
	if !r.marked(killedMark) {
		e.Log.ErrorContext(ctx, "terraform run did not stop when interrupted: killing it", "node", r.node.UID, "operation", r.operation)
		if err := writeFile(r.file(killedMark), nil); err != nil {
			e.Log.ErrorContext(ctx, "terraform run can't be marked as killed", "node", r.node.UID, "error", err)
		}
	}
	r.signal(ctx, p, syscall.SIGKILL)
	return killInterval
}

// signal sends SIGINT to Terraform alone, which passes it on as it sees fit, but
// SIGKILL to its whole process group.
func (r run) signal(ctx context.Context, p *process, sig syscall.Signal) {
	var target *os.Process
	if p != nil {
		target = p.cmd.Process
	} else if target = findProcess(ctx, "-var-file="+r.variables()); target == nil {
		return // it has just ended
	}
	if sig == syscall.SIGKILL {
		_ = syscall.Kill(-target.Pid, sig)
	}
	_ = target.Signal(sig)
}

// outcome is how an ended run came out, without regard to its state file.
type outcome struct {
	err error
	// cut: it did not come to its own end, so that its state may not tell all
	// that it made.
	cut   bool
	begun []begun
	class broker.FailureClass
}

func (e *Engine) outcome(r run) outcome {
	rep, err := readReport(r.output(), r.operation)
	if err != nil {
		return outcome{err: err, cut: true, class: broker.FailureOther}
	}
	exit := ""
	if p := e.process(r); p != nil {
		<-p.done
		if p.err != nil {
			exit = p.err.Error()
		}
	}
	out := outcome{begun: rep.begun}
	if rep.summary && len(rep.errors) == 0 && exit == "" {
		return out
	}
	out.cut, out.class = true, broker.FailureTimeout
	switch {
	case r.marked(killedMark):
		out.err = fmt.Errorf("took longer than %s, did not stop when interrupted, and was killed", r.timeout)
	case r.marked(interruptedMark):
		out.err = fmt.Errorf("took longer than %s and was interrupted", r.timeout)
	case !rep.summary && len(rep.errors) == 0:
		out.err = errors.New("run was interrupted: it ended without a result")
		out.class = broker.FailureInterrupted
	default:
		out.cut = slices.ContainsFunc(rep.errors, func(text string) bool { return strings.Contains(text, pluginGone) })
		out.class = classify(e.module(r.node.Source.Template).rules, rep.diagnostics)
	}
	out.err = joinText(out.err, rep.errors...)
	if len(rep.errors) == 0 {
		out.err = joinText(out.err, exit, r.stderrText())
	}
	return out
}

// unrecorded lists the resources that a run began to create and that s does not
// know.
func (o outcome) unrecorded(s *state) []string {
	known := s.resources()
	var missing []string
	for _, b := range o.begun {
		if slices.Contains(known, b.address) {
			continue
		}
		text := b.address
		if b.id != "" {
			text += " (id " + b.id + ")"
		}
		missing = append(missing, text)
	}
	return missing
}

// stderrText gives the beginning of the standard error, where Terraform writes
// only what it can't say in its JSON output: wrong usage, a crash.
func (r run) stderrText() string {
	text, err := os.ReadFile(r.stderr())
	if err != nil {
		return ""
	}
	if len(text) > stderrShown {
		text = append(text[:stderrShown:stderrShown], "..."...)
	}
	return strings.TrimSpace(string(text))
}

// joinText appends texts to an error, which may be nil.
func joinText(err error, texts ...string) error {
	var all []string
	if err != nil {
		all = append(all, err.Error())
	}
	for _, text := range texts {
		if text != "" {
			all = append(all, text)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func removeIfExists(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile writes a private file so that a crash leaves the old one or the new.
func writeFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
