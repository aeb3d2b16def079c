package terraform

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// searchTries bounds the listings of one search.
	searchTries = 3
	// searchEvery is how long each of them waits: what a killed run has begun may
	// take a moment to be listed.
	searchEvery = 10 * time.Second
)

// readSearchRule reads the other block of a module's own file:
//
//	sweep {
//	  before_destroy = true
//	}
//
// A module asks for it whose sweep would not find what a killed create has lost once
// the rest of the node is destroyed: a server by its port, say.
func readSearchRule(root string, block *hclsyntax.Block) (before bool, problems []Problem) {
	report := func(at hcl.Range, format string, args ...any) {
		problems = append(problems, mistake("Invalid sweep block", inModule(root, at), format, args...).hint("write sweep { before_destroy = true }"))
	}
	for _, inner := range block.Body.Blocks {
		report(inner.DefRange(), "a sweep block has no blocks in it")
	}
	for _, attr := range inOrder(block.Body.Attributes) {
		value, diags := attr.Expr.Value(nil)
		switch {
		case attr.Name != "before_destroy":
			report(attr.NameRange, "a sweep block has no argument %q", attr.Name)
		case diags.HasErrors() || value.IsNull() || value.Type() != cty.Bool:
			report(attr.Expr.Range(), "before_destroy is true or false")
		default:
			before = value.True()
		}
	}
	if before && !hasSweep(root) {
		report(block.DefRange(), "the module has no %s directory that could be asked before a destroy", sweepDir)
	}
	return before, problems
}

// searchesFirst tells whether the kept module in root asks for a search.
func searchesFirst(root string) (first bool) {
	src, err := os.ReadFile(filepath.Join(root, moduleFile)) //nolint:gosec // a file of the module
	if err != nil {
		return false
	}
	file, diags := hclsyntax.ParseConfig(src, moduleFile, hcl.InitialPos)
	if diags.HasErrors() {
		return false
	}
	for _, block := range file.Body.(*hclsyntax.Body).Blocks { //nolint:forcetypeassert // what hclsyntax parses to
		if block.Type == sweepDir {
			before, problems := readSearchRule(root, block)
			first = before && len(problems) == 0
		}
	}
	return first
}

// search asks a module's sweep for what an apply that was cut short has made and no
// state knows, and gives the import ids of all that is listed of the node; nil where
// there is nothing to ask. It takes a while, since clouds list late. A listing that
// fails is asked for again, and what is not found in the end may be left: a destroy
// does not wait for it. An error is that of ctx.
func (e *Engine) search(ctx context.Context, apply run, recorded *state) (map[string]string, error) {
	n := apply.node
	cut := n.FailureClass == broker.FailureInterrupted || n.FailureClass == broker.FailureTimeout || apply.started() && e.outcome(apply).cut
	if !cut || len(n.Import) > 0 || !e.module(n.Source.Template).searches {
		return n.Import, nil
	}
	known := recorded.resources()
	for range searchTries {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(cmp.Or(e.searchWait, searchEvery)):
		}
		listing, err := e.List(ctx, broker.Pool{Name: n.Pool, Source: n.Source, Environment: n.Environment})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			e.Log.WarnContext(ctx, "a create was cut short, and what it has made can't be listed", "node", n.UID, "pool", n.Pool, "error", err)
			continue
		}
		found := map[string]string{}
		for _, listed := range listing.Nodes {
			if listed.UID == n.UID {
				maps.Copy(found, listed.Resources)
			}
		}
		maps.DeleteFunc(found, func(address, _ string) bool { return slices.Contains(known, address) })
		if len(found) > 0 {
			e.Log.WarnContext(ctx, "a create was cut short: the sweep has listed what it had made", "node", n.UID, "pool", n.Pool, "resources", found)
			return found, nil
		}
	}
	return nil, nil
}
