package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/duffy-broker/duffy-broker/broker"
)

// planFile is the plan of a lookup, in its directory.
const planFile = "plan"

// followDir has the directories of lookups.
func (e *Engine) followDir() string { return filepath.Join(e.Dir, "follow") }

// checkFollow finds outputs that a pool can't follow.
func (m module) checkFollow(f broker.Follow) []Problem {
	var problems []Problem
	for _, name := range f.Outputs {
		o, there := m.outputs[name]
		switch {
		case !there:
			problems = append(problems, mistake("Missing output", m.end("outputs"), "it has no output %q, which the pool follows", name).about("follow").
				hint("add it to the module, with a value from a data source, or take the name out of the pool's follow block"))
		case o.sensitive:
			problems = append(problems, mistake("Sensitive output", o.at, "its output %q, which the pool follows, is sensitive", name).about("follow").
				hint("new values of what is followed are told: remove \"sensitive\", or wrap the value in nonsensitive()"))
		}
	}
	return problems
}

// FollowBase gives the generation that a pool has without regard to the outputs
// that it follows. Its source must have been accepted.
func (e *Engine) FollowBase(p broker.Pool) (string, error) {
	_, canonical, err := canonicalVariables(p.Variables)
	if err != nil {
		return "", fmt.Errorf("variables of pool %s: %w", p.Name, err)
	}
	return generation(p.Source.Template, canonical, p.Environ), nil
}

// FollowedSource gives the source of a pool whose followed outputs have other
// values than when its source was accepted: p.Followed. The module stays as it was
// then.
func (e *Engine) FollowedSource(p broker.Pool) (broker.Source, error) {
	_, canonical, err := canonicalVariables(p.Variables)
	if err != nil {
		return broker.Source{}, fmt.Errorf("variables of pool %s: %w", p.Name, err)
	}
	source := p.Source
	source.Generation = p.GenerationOver(generation(source.Template, canonical, p.Environ))
	if len(source.Variables) > 0 {
		source.Variables, err = e.sealVariables(source.Generation, canonical)
	}
	return source, err
}

// LookUp asks Terraform for the values that the outputs which a pool follows would
// have for a new node, in JSON, by name. It makes nothing: it plans a node in a
// directory of its own, with the pool's environment, credentials and create
// timeout. The pool's source must have been accepted. An error has a class, as that
// of a node that can't be made, and no secret.
func (e *Engine) LookUp(ctx context.Context, p broker.Pool) (values map[string]string, err error) {
	if err := os.MkdirAll(e.followDir(), 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(e.followDir(), "lookup-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }() // the plan has secrets
	p.ProviderSharing = false
	n := broker.NewNode(p, time.Time{})
	n.Host = sampleHost(p)
	r, err := e.run(n, opPlan)
	if err != nil {
		return nil, err
	}
	r.dir, r.timeout = dir, p.CreateTimeout
	defer e.forget(r)
	if err := e.look(ctx, r, "-out="+planFile); err != nil {
		return nil, err
	}
	tf, err := e.terraformWith(dir, p.Environment)
	if err != nil {
		return nil, r.failed(err, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, p.CreateTimeout)
	defer cancel()
	plan, err := tf.ShowPlanFile(ctx, planFile)
	if err != nil {
		return nil, r.failed(fmt.Errorf("read the plan: %w", err), nil)
	}
	if values, err = followedValues(plan, p.Follow); err != nil {
		return nil, r.failed(&broker.Failure{Class: broker.FailureConfiguration, Err: err}, nil)
	}
	return values, nil
}

// TidyLookUps removes what lookups of an earlier process have left.
func (e *Engine) TidyLookUps() error { return os.RemoveAll(e.followDir()) }

// followedValues reads the values of outputs from a plan.
func followedValues(plan *tfjson.Plan, f broker.Follow) (map[string]string, error) {
	values := make(map[string]string, len(f.Outputs))
	var unknown, null []string
	for _, name := range f.Outputs {
		change := plan.OutputChanges[name]
		switch {
		case change != nil && anyTrue(change.AfterUnknown):
			unknown = append(unknown, name)
			continue
		case change == nil || change.After == nil:
			null = append(null, name)
			continue
		}
		text, err := json.Marshal(change.After)
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", name, err)
		}
		values[name] = string(text)
	}
	switch {
	case len(unknown) > 0:
		return nil, broker.Errorf(broker.CodeInvalid, "%s: not known before a node is made: only outputs that come from data sources can be followed", strings.Join(unknown, ", "))
	case len(null) > 0:
		return nil, broker.Errorf(broker.CodeInvalid, "%s: null, which can't be followed", strings.Join(null, ", "))
	}
	return values, nil
}

// anyTrue tells whether something in a value of true, lists and objects is true.
func anyTrue(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case []any:
		return slices.ContainsFunc(v, anyTrue)
	case map[string]any:
		for _, member := range v {
			if anyTrue(member) {
				return true
			}
		}
	}
	return false
}

// forget drops the process of a run that has ended.
func (e *Engine) forget(r run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.processes, r.output())
}
