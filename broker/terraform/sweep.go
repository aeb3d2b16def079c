package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/terraform-exec/tfexec"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// sweepDir is the part of a module that lists what exists: data sources only.
	sweepDir = "sweep"
	// listTimeout bounds one listing.
	listTimeout = 5 * time.Minute
	// listKill is how often a listing that was given up is killed until it is dead.
	listKill = 50 * time.Millisecond
)

var _ broker.Lister = (*Engine)(nil)

// hasSweep tells whether a module can list what it has made.
func hasSweep(root string) bool { return exists(filepath.Join(root, sweepDir)) }

// readSweep reads the sweep configuration of the module in root, if it has one that
// can be read, and finds what is wrong with it whatever a pool gives it.
func readSweep(root string) (m module, ok bool, problems []Problem) {
	if !hasSweep(root) {
		return module{}, false, nil
	}
	dir := filepath.Join(root, sweepDir)
	if len(moduleFiles(dir)) == 0 {
		return module{}, false, []Problem{mistake("Empty sweep configuration", hcl.Range{}, "its %s has no .tf files", sweepDir).
			hint("%s is the directory of the configuration that lists what exists (see modules/README.md): give other things another name", sweepDir)}
	}
	m, diags := readModule(root, dir)
	if diags.HasErrors() {
		return module{}, false, syntaxProblems(root, diags)
	}
	if v, ok := m.variables[brokerVariable]; !ok {
		problems = append(problems, mistake("Missing variable", m.end("variables"), "its sweep configuration has no variable %q", brokerVariable).
			hint("add variable \"broker\" { type = object({ id = string }) }, and list only what has the tag duffy:broker-id with that id"))
	} else if wrong := v.refuses(map[string]any{"id": "", "pool": ""}); wrong != "" {
		problems = append(problems, mistake("Wrong type", v.typeAt, "its sweep configuration's variable %q does not take what the broker gives it: %s", brokerVariable, wrong).
			hint("its type is an object with id and pool, or one of them"))
	}
	for _, o := range []struct{ name, hint string }{
		{"complete", "it says whether the list is known to be complete"},
		{"nodes", "it lists what exists: objects with node_id, pool, ipaddr, created_at and resources"},
	} {
		output, ok := m.outputs[o.name]
		switch {
		case !ok:
			problems = append(problems, mistake("Missing output", m.end("outputs"), "its sweep configuration has no output %q", o.name).hint("%s", o.hint))
		case output.sensitive:
			problems = append(problems, mistake("Sensitive output", output.at, "its sweep configuration's output %q is sensitive", o.name).hint("remove \"sensitive\""))
		}
	}
	return m, true, append(problems, m.problems...)
}

// checkSweepTree refuses what a sweep configuration must not hold. It must make
// nothing: it runs again and again.
func checkSweepTree(root string) []Problem {
	if !hasSweep(root) {
		return nil
	}
	var problems []Problem
	foreign := walkSources(root, sweepDir, func(m module) {
		problems = append(problems, m.checkBackends()...)
		for _, r := range m.resources {
			problems = append(problems, mistake("Resource in a sweep configuration", r.at, "%s: a sweep configuration makes nothing", r.name).
				hint("use data sources only"))
		}
	})
	return append(problems, foreign...)
}

// initialiseSweep initialises the sweep configuration of a module copy, with the
// versions of providers that the module itself has.
func (e *Engine) initialiseSweep(ctx context.Context, root, copied string) ([]moduleWarning, []Problem) {
	if !hasSweep(copied) {
		return nil, nil
	}
	dir := filepath.Join(copied, sweepDir)
	lock := filepath.Join(dir, lockFileName)
	if !exists(lock) {
		text, err := os.ReadFile(filepath.Join(copied, lockFileName)) //nolint:gosec // a file of ours
		if err == nil {
			err = writeFile(lock, text)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a module without providers has none
			return nil, []Problem{mistake("Terraform can't be run", hcl.Range{}, "the lock file of its copy can't be copied").with(broker.CodeInternal, err)}
		}
	}
	warnings, problems := e.initialise(ctx, filepath.Join(root, sweepDir), dir)
	for i := range warnings {
		warnings[i].Text = sweepDir + ": " + warnings[i].Text
	}
	for i := range problems {
		if problems[i].ModuleRange.Filename != "" {
			problems[i].ModuleRange.Filename = path.Join(sweepDir, problems[i].ModuleRange.Filename)
			continue
		}
		problems[i].Detail = sweepDir + ": " + problems[i].Detail
	}
	return warnings, problems
}

// List implements [broker.Lister], with the module's sweep configuration. One
// listing runs at a time. Unlike other runs it ends with ctx and with the broker:
// it makes nothing.
func (e *Engine) List(ctx context.Context, p broker.Pool) (broker.Listing, error) {
	e.listMu.Lock()
	defer e.listMu.Unlock()
	if err := ctx.Err(); err != nil {
		return broker.Listing{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	scratch := filepath.Join(e.Dir, "sweep")
	if err := os.RemoveAll(scratch); err != nil { // what a crash has left
		return broker.Listing{}, fmt.Errorf("sweep of pool %q: %w", p.Name, err)
	}
	listing, err := e.list(ctx, p, scratch)
	if err != nil {
		text := e.maskOf(broker.Node{Source: p.Source, Environment: p.Environment})().Replace(err.Error())
		err = fmt.Errorf("sweep of pool %q: %s", p.Name, text)
	}
	return listing, errors.Join(err, os.RemoveAll(scratch))
}

func (e *Engine) list(ctx context.Context, p broker.Pool, scratch string) (broker.Listing, error) {
	var none broker.Listing
	dir := filepath.Join(scratch, sweepDir)
	if err := e.linkSweep(p.Source.Template, scratch); err != nil {
		return none, err
	}
	values, err := e.sweepVariables(p, dir)
	if err != nil {
		return none, err
	}
	file := filepath.Join(scratch, "tfvars.json")
	if err := writeFile(file, values); err != nil {
		return none, err
	}
	tf, err := e.terraformWith(dir, p.Environment)
	if err != nil {
		return none, err
	}
	// A refresh reads data sources and outputs, and makes nothing whatever the
	// configuration says.
	err = killedWith(ctx, "-var-file="+file, func(ctx context.Context) error { return tf.Refresh(ctx, tfexec.VarFile(file)) })
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	if err != nil {
		return none, fmt.Errorf("terraform refresh: %s", initText(err))
	}
	s, err := newestState(dir)
	if err != nil {
		return none, err
	}
	return s.listing()
}

// killedWith calls fn, which runs Terraform with arg on its command line, and
// kills that with its providers when ctx ends. fn's own context does not end: the
// library does not wait for a Terraform whose context ends while it starts, and
// gives an error without text then (v0.26.0). What only looks can be killed
// without harm.
func killedWith(ctx context.Context, arg string, fn func(context.Context) error) error {
	done := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		for {
			if p := findProcess(context.WithoutCancel(ctx), arg); p != nil {
				_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
				_ = p.Kill()
			}
			select {
			case <-done:
				return
			case <-time.After(listKill):
			}
		}
	})
	err := fn(context.WithoutCancel(ctx))
	close(done)
	killer.Wait()
	return err
}

// linkSweep makes a directory that looks like the kept module, with a sweep
// directory that Terraform can write to.
func (e *Engine) linkSweep(template, scratch string) error {
	root := filepath.Join(e.templatesDir(), template)
	if template == "" {
		return errors.New("its module was not accepted yet")
	}
	dir := filepath.Join(scratch, sweepDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for from, to := range map[string]string{root: scratch, filepath.Join(root, sweepDir): dir} {
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if from == root && (entry.Name() == sweepDir || entry.Name() == ownDir) {
				continue
			}
			if err := os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepVariables gives the variables that a sweep configuration declares: the
// pool's, and who asks.
func (e *Engine) sweepVariables(p broker.Pool, dir string) ([]byte, error) {
	plain, err := e.unsealVariables(p.Source)
	if err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	all := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	m, _ := readModule(dir, dir) // Prepare has found it good
	maps.DeleteFunc(all, func(name string, _ any) bool {
		_, declared := m.variables[name]
		return !declared
	})
	all[brokerVariable] = map[string]any{"id": e.BrokerID, "pool": p.Name}
	return json.Marshal(all)
}

// listing reads the outputs of a sweep configuration. A node without an id is
// passed on as it is: the caller says what is wrong with it.
func (s *state) listing() (broker.Listing, error) {
	var complete bool
	if o, ok := s.Outputs["complete"]; ok && string(o.Value) != "null" {
		if err := json.Unmarshal(o.Value, &complete); err != nil {
			return broker.Listing{}, errors.New(`output "complete" is not true or false`)
		}
	}
	var nodes []struct {
		UID       string             `json:"node_id"`
		Pool      string             `json:"pool"`
		Address   string             `json:"ipaddr"`
		CreatedAt string             `json:"created_at"`
		Remains   bool               `json:"remains"`
		Resources map[string]*string `json:"resources"`
	}
	o, ok := s.Outputs["nodes"]
	if !ok || string(o.Value) == "null" {
		return broker.Listing{}, errors.New(`output "nodes" is missing`)
	}
	if err := json.Unmarshal(o.Value, &nodes); err != nil {
		return broker.Listing{}, fmt.Errorf(`output "nodes" is not a list of objects with node_id, pool, ipaddr, created_at and resources: %w`, err)
	}
	listing := broker.Listing{Complete: complete}
	for _, n := range nodes {
		listed := broker.ListedNode{UID: n.UID, Pool: n.Pool, Address: n.Address, Remains: n.Remains, Resources: map[string]string{}}
		if n.CreatedAt != "" {
			at, err := time.Parse(time.RFC3339, n.CreatedAt)
			if err != nil {
				return broker.Listing{}, fmt.Errorf("created_at of node %q is not a time as 2006-01-02T15:04:05Z: %q", n.UID, n.CreatedAt)
			}
			listed.CreatedAt = at
		}
		for address, id := range n.Resources {
			if address != "" && id != nil && *id != "" {
				listed.Resources[address] = *id
			}
		}
		listing.Nodes = append(listing.Nodes, listed)
	}
	return listing, nil
}

// importMissing imports what the leak sweep has found of a node and the state
// does not know, one resource after the other, and gives the completed state.
// What does not exist any more is passed over. An error leaves the state as
// complete as it has become.
func (e *Engine) importMissing(ctx context.Context, r run, s *state, runs *[]broker.Run) (*state, error) {
	r.node.ProviderSharing = false // one run is no reason for a host
	for _, address := range slices.Sorted(maps.Keys(r.node.Import)) {
		if slices.Contains(s.resources(), address) {
			continue
		}
		if err := e.prepare(r); err != nil {
			return s, err
		}
		if err := r.beginWith(s); err != nil {
			return s, r.failed(err, nil)
		}
		if err := e.start(ctx, r, address, r.node.Import[address]); err != nil {
			return s, err
		}
		if err := e.wait(ctx, r); err != nil {
			return s, err
		}
		next := r.recorded(s)
		err := e.imported(r, address, next)
		*runs = append(*runs, e.record(r, err))
		if err != nil {
			return next, err
		}
		s = next
	}
	return s, nil
}

// beginWith makes s the state of the run directory. Without one, what a killed run
// may have left there goes: Terraform refuses a state file that it can't read.
func (r run) beginWith(s *state) error {
	if s != nil {
		return r.putState(s)
	}
	return errors.Join(removeIfExists(filepath.Join(r.dir, stateFile)), removeIfExists(filepath.Join(r.dir, erroredFile)))
}

// notThere is how Terraform and the libraries of providers say that an import has
// found nothing.
const notThere = "Cannot import non-existent remote object"

// imported tells how an import has come out.
func (e *Engine) imported(r run, address string, s *state) error {
	if slices.Contains(s.resources(), address) {
		return nil
	}
	text, err := os.ReadFile(r.stderr())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r.failed(err, s)
	}
	if strings.Contains(string(text), notThere) {
		return nil
	}
	class, cause := broker.FailureInterrupted, fmt.Errorf("%s: run was interrupted: it ended without a result", address)
	switch d := plainDiagnostic(string(text)); {
	case r.marked(killedMark) || r.marked(interruptedMark):
		class, cause = broker.FailureTimeout, fmt.Errorf("%s: took longer than %s", address, r.timeout)
	case d.Summary != "":
		class = classify(e.module(r.node.Source.Template).rules, []diagnostic{d})
		cause = fmt.Errorf("%s: %s: %s", address, d.Summary, d.Detail)
	}
	return r.failed(&broker.Failure{Class: class, Err: cause}, s)
}

// plainDiagnostic finds the first error in what Terraform writes for people.
func plainDiagnostic(text string) diagnostic {
	_, text, found := strings.Cut("\n"+text, "\nError: ")
	if !found {
		return diagnostic{}
	}
	summary, detail, _ := strings.Cut(text, "\n\n")
	return diagnostic{
		Severity: "error", Address: "of a resource", // not of the module itself
		Summary: strings.Join(strings.Fields(summary), " "), Detail: strings.Join(strings.Fields(detail), " "),
	}
}
