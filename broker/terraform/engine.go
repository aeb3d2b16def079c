package terraform

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

// defaultGrace is how long a run beyond its timeout may take to stop by itself
// before it is killed. It is long, since killing leaks what was being made.
const defaultGrace = 10 * time.Minute

// Sealer encrypts what is stored, bound to a purpose and to the object's name.
type Sealer interface {
	Seal(purpose, aad string, plain []byte) []byte
	Open(purpose, aad string, sealed []byte) ([]byte, error)
	// SealedByCurrent tells whether a value is sealed as Seal does it now: with the
	// current key.
	SealedByCurrent(sealed []byte) bool
	// KeyOf gives the id of the key that a value is sealed with, "" where it does
	// not say.
	KeyOf(sealed []byte) string
}

// Config says what an [Engine] works with. Grace and Sweep may be zero.
type Config struct {
	Binary        Binary   // see [Find]
	Dir           string   // the data directory: has templates, runs and nodes
	BrokerID      string   // modules tag with it what they make
	SSHPublicKeys []string // for modules to put on nodes: authorized_keys lines
	// NodeURL is where nodes reach the broker, without a slash at its end; "" if they
	// do not: then they get no token either.
	NodeURL string
	Keyring Sealer
	// Executable is the path of this program. Modules find it in the environment
	// as DUFFY_BROKER.
	Executable string
	// Grace is the time between the one interrupt that a run gets at its timeout
	// and its being killed. 0 means 10 minutes.
	Grace time.Duration
	// Sweep ends whatever runs out of a node's directory below Dir/nodes, and
	// returns nil only if nothing does any more. It is called when Terraform
	// has nothing to destroy (any more) and the directory still exists: a killed
	// create leaves things that no state knows. The engine then removes the
	// directory.
	Sweep func(ctx context.Context, dir string) error
	// ProviderLimits bounds the lives of shared providers; zero: the defaults.
	ProviderLimits provider.Limits
	Log            *slog.Logger
}

// Engine is a [broker.Provisioner]. Its methods may be called at once for
// different nodes.
type Engine struct {
	Config

	initMu  sync.Mutex // templates are made and pruned one at a time
	fetchMu sync.Mutex // modules are fetched and pruned one at a time

	mu        sync.Mutex
	processes map[string]*process   // runs that this process started, by output file
	modules   map[string]keptModule // by template

	compressors sync.Pool // of *gzip.Writer, for logs
	reapers     sync.WaitGroup
	hostLocks   hostLocks

	listMu     sync.Mutex    // listings run one at a time
	searchWait time.Duration // tests wait less than [searchEvery]

	gate *gate // runs in their CPU phase
}

var _ broker.Provisioner = (*Engine)(nil)

// New makes an engine. It starts nothing and touches no file.
func New(c Config) *Engine {
	if dir, err := filepath.Abs(c.Dir); err == nil {
		c.Dir = dir // runs have another working directory
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	return &Engine{Config: c, processes: map[string]*process{}, gate: newGate(gateFactor * runtime.GOMAXPROCS(0))}
}

// Apply implements [broker.Provisioner]. It never starts a second run for a node:
// an ended run gives its result again, and a run that was killed is an error.
func (e *Engine) Apply(ctx context.Context, n broker.Node) (broker.Result, error) {
	if err := ctx.Err(); err != nil {
		return broker.Result{}, err
	}
	r, err := e.run(n, opApply)
	if err != nil {
		return broker.Result{}, err
	}
	if !r.started() {
		if err := e.prepare(r); err != nil {
			return broker.Result{}, err
		}
		if err := e.start(ctx, r, "-auto-approve"); err != nil {
			return broker.Result{}, err
		}
	}
	if err := e.wait(ctx, r); err != nil {
		return broker.Result{}, err
	}
	result, err := e.applied(r)
	result.Runs = []broker.Run{e.record(r, err)}
	return result, err
}

// applied reads the result of an apply from its directory.
func (e *Engine) applied(r run) (broker.Result, error) {
	s, stateErr := newestState(r.dir)
	out := e.outcome(r)
	if out.err != nil || stateErr != nil {
		if completed := e.withJournal(r, s, out.begun); completed != s {
			s, stateErr = completed, nil
		}
	}
	result := broker.Result{State: e.seal(r.node, s)}
	if out.err == nil && stateErr == nil {
		outputs, err := s.contractOutputs()
		if err == nil {
			// A module that gives its tenants all of what it was given.
			if outputs.Data != nil {
				outputs.Data = json.RawMessage(maskTexts(e.identitySecrets(r.node)).Replace(string(outputs.Data)))
			}
			result.Outputs = outputs
			return result, nil
		}
		return result, r.failed(&broker.Failure{Class: broker.FailureConfiguration, Err: err}, s)
	}
	// A run that failed by itself before it made anything has no state file.
	if stateErr != nil && (out.err == nil || !errors.Is(stateErr, errNoState)) {
		out.err = joinText(out.err, stateErr.Error())
		out.cut = true
	}
	if missing := out.unrecorded(s); out.cut && len(missing) > 0 {
		out.err = joinText(out.err, "something may be left that must be removed by hand: "+
			"begun and not in the state: "+strings.Join(missing, ", "))
	}
	return result, r.failed(&broker.Failure{Class: cmp.Or(out.class, broker.FailureOther), Err: out.err}, s)
}

// Destroy implements [broker.Provisioner]. It waits for an apply of the node that
// still runs. Where nothing is recorded it succeeds; if an apply that was cut
// short may have left something all the same, it logs this as an error.
func (e *Engine) Destroy(ctx context.Context, n broker.Node, sealed []byte) (broker.Result, error) {
	unchanged := broker.Result{State: sealed}
	if err := ctx.Err(); err != nil {
		return unchanged, err
	}
	stored, err := e.unseal(n, sealed)
	if err != nil {
		return unchanged, fmt.Errorf("terraform destroy of node %s: %w", n.UID, err)
	}
	if sealed != nil && !e.Keyring.SealedByCurrent(sealed) { // read before it was sealed anew
		unchanged.State = e.Keyring.Seal(statePurpose, n.UID, stored.raw)
	}
	apply, err := e.run(n, opApply)
	if err != nil {
		return unchanged, err
	}
	r, err := e.run(n, opDestroy)
	if err != nil {
		return unchanged, err
	}
	imports, err := e.run(n, opImport)
	if err != nil {
		return unchanged, err
	}
	for _, earlier := range []run{apply, imports, r} {
		if err := e.wait(ctx, earlier); err != nil {
			return unchanged, err
		}
	}
	recorded := r.recorded(stored)
	var runs []broker.Run
	if r.started() { // by an earlier process
		runs = append(runs, e.record(r, e.destroyed(r)))
	} else {
		recorded = e.withJournal(apply, recorded, e.outcome(apply).begun)
		stored = recorded
		if imports.node.Import, err = e.search(ctx, apply, recorded); err != nil {
			return unchanged, err
		}
		recorded, err = e.importMissing(ctx, imports, recorded, &runs)
		if err != nil {
			if ctx.Err() != nil {
				return unchanged, err
			}
			if n.Import == nil && imports.node.Import != nil { // the next try has to search again
				err = &broker.Failure{Class: broker.FailureInterrupted, Err: err}
			}
			return broker.Result{State: e.seal(n, recorded), Runs: runs}, err
		}
		stored = recorded
		e.reportLeak(ctx, apply, recorded)
	}
	if len(recorded.resources()) > 0 {
		if err := e.destroyRecorded(ctx, r, stored, &runs); err != nil {
			if ctx.Err() != nil {
				return unchanged, err
			}
			return broker.Result{State: e.seal(n, r.recorded(stored)), Runs: runs}, err
		}
	}
	return broker.Result{Runs: runs}, e.sweep(ctx, n)
}

// destroyRecorded destroys what is recorded. The first try trusts the state; the
// second asks the providers first, which mends a state that is behind the truth.
func (e *Engine) destroyRecorded(ctx context.Context, r run, stored *state, runs *[]broker.Run) error {
	err := e.destroyOnce(ctx, r, stored, runs, "-refresh=false")
	if err == nil || ctx.Err() != nil || r.marked(interruptedMark) {
		return err
	}
	e.Log.WarnContext(ctx, "destroy failed; once more with a refresh", "node", r.node.UID, "error", err)
	r.node.ProviderSharing = false // it may have been the reason
	return e.destroyOnce(ctx, r, stored, runs)
}

func (e *Engine) destroyOnce(ctx context.Context, r run, stored *state, runs *[]broker.Run, flags ...string) error {
	if err := e.prepare(r); err != nil {
		return err
	}
	if err := r.putState(r.recorded(stored)); err != nil {
		return r.failed(err, nil)
	}
	if err := e.start(ctx, r, append([]string{"-auto-approve"}, flags...)...); err != nil {
		return err
	}
	if err := e.wait(ctx, r); err != nil {
		return err
	}
	err := e.destroyed(r)
	*runs = append(*runs, e.record(r, err))
	return err
}

// destroyed reads the result of a destroy from its directory.
func (e *Engine) destroyed(r run) error {
	s, stateErr := newestState(r.dir)
	out := e.outcome(r)
	switch {
	case stateErr != nil:
		out.err = joinText(out.err, "afterwards "+stateErr.Error())
	case len(s.resources()) > 0:
		out.err = joinText(out.err, "still recorded: "+strings.Join(s.resources(), ", "))
	}
	if out.err == nil {
		return nil
	}
	return r.failed(&broker.Failure{Class: cmp.Or(out.class, broker.FailureOther), Err: out.err}, s)
}

// sweep removes a node's directory, and what still runs out of it.
func (e *Engine) sweep(ctx context.Context, n broker.Node) error {
	dir := filepath.Join(e.nodesDir(), n.UID)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if e.Sweep != nil {
		if err := e.Sweep(ctx, dir); err != nil {
			return fmt.Errorf("sweep the directory of node %s: %w", n.UID, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the directory of node %s: %w", n.UID, err)
	}
	return nil
}

// reportLeak logs if an apply that was cut short may have made something that no
// state knows. Terraform can't find it any more.
func (e *Engine) reportLeak(ctx context.Context, apply run, recorded *state) {
	if !apply.started() {
		return
	}
	_, stateErr := newestState(apply.dir)
	out := e.outcome(apply)
	damaged := stateErr != nil && !errors.Is(stateErr, errNoState)
	if missing := out.unrecorded(recorded); (out.cut || damaged) && len(missing) > 0 {
		e.Log.ErrorContext(ctx, "an apply was cut short: something may be left that must be removed by hand",
			"node", apply.node.UID, "pool", apply.node.Pool, "unrecorded", missing)
	}
}

// Settle implements [broker.Provisioner].
func (e *Engine) Settle(ctx context.Context, n broker.Node) error {
	for _, operation := range []string{opApply, opImport, opDestroy} {
		r, err := e.run(n, operation)
		if err != nil {
			return err
		}
		if err := e.wait(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Discard implements [broker.Provisioner]. It refuses while a run is alive.
func (e *Engine) Discard(n broker.Node) error {
	var dir string
	for _, operation := range []string{opApply, opImport, opDestroy} {
		r, err := e.run(n, operation)
		if err != nil {
			return err
		}
		alive, err := r.alive()
		if err != nil {
			return err
		}
		if alive {
			return broker.Errorf(broker.CodeConflict, "terraform %s of node %s is still running: its directory stays", operation, n.UID).
				WithHint("wait for its end")
		}
		dir = r.dir
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("run directory of node %s: %w", n.UID, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.processes, func(output string, _ *process) bool { return strings.HasPrefix(output, dir+string(filepath.Separator)) })
	return nil
}

func (e *Engine) templatesDir() string { return filepath.Join(e.Dir, templatesName) }
func (e *Engine) runsDir() string      { return filepath.Join(e.Dir, "runs") }
func (e *Engine) nodesDir() string     { return filepath.Join(e.Dir, "nodes") }

// seal gives nil for a state that records nothing.
func (e *Engine) seal(n broker.Node, s *state) []byte {
	if len(s.resources()) == 0 {
		return nil
	}
	return e.Keyring.Seal(statePurpose, n.UID, s.raw)
}

func (e *Engine) unseal(n broker.Node, sealed []byte) (*state, error) {
	if sealed == nil {
		return nil, nil // nothing was recorded
	}
	raw, err := e.Keyring.Open(statePurpose, n.UID, sealed)
	if err != nil {
		return nil, err
	}
	return parseState(raw)
}

// variables gives the content of a node's variables file.
func (e *Engine) variables(n broker.Node) ([]byte, error) {
	all := map[string]any{}
	plain, err := e.unsealVariables(n.Source)
	if err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.UseNumber() // a float64 would change large numbers
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	about := map[string]any{
		"id":       e.BrokerID,
		"node_id":  n.UID,
		"pool":     n.Pool,
		"hostname": broker.DefaultHostname(n.UID),
		"tags": map[string]string{
			"duffy:broker-id": e.BrokerID,
			"duffy:node-id":   n.UID,
			"duffy:pool":      n.Pool,
		},
		"ssh_public_keys": append([]string{}, e.SSHPublicKeys...), // never null
		"directory":       filepath.Join(e.nodesDir(), n.UID),
	}
	if n.Host != nil {
		about["host"] = hostVariable(*n.Host)
	}
	if err := e.identify(about, n); err != nil {
		return nil, err
	}
	all[brokerVariable] = about
	return json.MarshalIndent(all, "", "  ")
}
