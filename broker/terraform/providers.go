package terraform

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// impure are functions whose result is not the same for each run, even if their
// arguments are: time, chance, and the run's directory.
var impure = regexp.MustCompile(`\b(timestamp|plantimestamp|uuid|bcrypt|abspath)\s*\(`)

// checkSharing refuses an initialised module whose provider configurations may
// differ from node to node, or that has more than one of a provider: a provider
// process has one configuration, the last that it was given.
func checkSharing(root string) []Problem {
	c := sharingCheck{root: root, locals: map[string]localValue{}, seen: map[string]bool{}}
	for i, dir := range installedModules(root) {
		c.module(dir, i == 0)
	}
	for _, block := range c.providers {
		c.configuration(block)
	}
	return c.problems
}

// installedModules lists the directories of a module and of all modules that it
// uses, the root first.
func installedModules(root string) []string {
	dirs := []string{root}
	text, err := os.ReadFile(filepath.Join(root, ".terraform", "modules", "modules.json")) //nolint:gosec // a file of ours
	if err != nil {
		return dirs // it uses none
	}
	var manifest struct {
		Modules []struct{ Key, Dir string }
	}
	_ = json.Unmarshal(text, &manifest) // terraform's own
	for _, m := range manifest.Modules {
		if dir := filepath.Join(root, m.Dir); m.Key != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

type sharingCheck struct {
	root      string
	locals    map[string]localValue // of the root module
	providers []*hcl.Block          // of the root module
	sources   map[string][]byte     // of its files
	seen      map[string]bool       // locals that were looked at for the present block
	problems  []Problem
}

type localValue struct {
	expression hcl.Expression
	source     string
}

func (c *sharingCheck) refuse(at hcl.Range, format string, args ...any) {
	c.problems = append(c.problems, mistake("Providers that can't be shared", inModule(c.root, at), "%s: its providers can't be shared", fmt.Sprintf(format, args...)).
		about("provider_sharing").
		hint("remove provider_sharing from the pool, or let the provider blocks depend on the pool's own variables alone, one for each provider, "+
			"and tag the resources themselves, as in tags = var.broker.tags"))
}

// module reads the blocks of one module that matter.
func (c *sharingCheck) module(dir string, isRoot bool) {
	parser := hclparse.NewParser()
	for _, file := range moduleFiles(dir) {
		parse := parser.ParseHCLFile
		if strings.HasSuffix(file, ".json") {
			parse = parser.ParseJSONFile
		}
		f, _ := parse(file) // terraform has accepted it
		if f == nil {
			continue
		}
		content, _, _ := f.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "provider", LabelNames: []string{"name"}},
			{Type: "module", LabelNames: []string{"name"}},
			{Type: "locals"},
			{Type: "terraform"},
		}})
		for _, block := range content.Blocks {
			c.block(block, f.Bytes, isRoot)
		}
	}
}

func (c *sharingCheck) block(block *hcl.Block, source []byte, isRoot bool) {
	switch block.Type {
	case "provider":
		if !isRoot {
			c.refuse(block.DefRange, "provider %q is configured in a module that the pool's module uses", block.Labels[0])
			return
		}
		if alias, ok := attribute(block.Body, "alias"); ok {
			c.refuse(alias.Range, "provider %q has an alias", block.Labels[0])
			return
		}
		c.providers = append(c.providers, block)
		if c.sources == nil {
			c.sources = map[string][]byte{}
		}
		c.sources[block.DefRange.Filename] = source
	case "module":
		if providers, ok := attribute(block.Body, "providers"); ok {
			c.refuse(providers.Range, "module %q is given providers", block.Labels[0])
		}
	case "locals":
		if !isRoot {
			return
		}
		attributes, _ := block.Body.JustAttributes()
		for name, a := range attributes {
			c.locals[name] = localValue{a.Expr, text(a.Expr, source)}
		}
	case "terraform":
		content, _, _ := block.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "required_providers"}}})
		for _, b := range content.Blocks {
			attributes, _ := b.Body.JustAttributes()
			for name, a := range attributes {
				c.requirement(name, a)
			}
		}
	}
}

func (c *sharingCheck) requirement(name string, a *hcl.Attribute) {
	pairs, diags := hcl.ExprMap(a.Expr)
	if diags.HasErrors() {
		return
	}
	for _, pair := range pairs {
		if hcl.ExprAsKeyword(pair.Key) == "configuration_aliases" {
			c.refuse(pair.Key.Range(), "provider %q has configuration_aliases", name)
		}
	}
}

// configuration checks what a provider block refers to, however deep.
func (c *sharingCheck) configuration(block *hcl.Block) {
	clear(c.seen)
	for _, e := range expressions(block.Body) {
		c.expression(e, text(e, c.sources[block.DefRange.Filename]), e.Range(), block.Labels[0])
	}
}

// expression checks an expression in or behind the provider block at a place.
func (c *sharingCheck) expression(e hcl.Expression, source string, at hcl.Range, provider string) {
	if f := impure.FindString(source); f != "" {
		c.refuse(at, "provider %q depends on %s), which differs from run to run", provider, f)
	}
	for _, traversal := range e.Variables() {
		name := ""
		if len(traversal) > 1 {
			if step, ok := traversal[1].(hcl.TraverseAttr); ok {
				name = step.Name
			}
		}
		reference := traversal.RootName() + "." + name
		switch root := traversal.RootName(); {
		case root == "var" && name != brokerVariable && name != "":
		case reference == "path.module", reference == "path.root":
		case root == "local" && name != "":
			if local, ok := c.locals[name]; ok && !c.seen[name] {
				c.seen[name] = true
				c.expression(local.expression, local.source, at, provider)
			}
		case reference == "var."+brokerVariable:
			c.refuse(at, "provider %q depends on var.%s, which is about the node", provider, brokerVariable)
		default:
			c.refuse(at, "provider %q depends on %s, which may differ from node to node", provider, strings.TrimSuffix(reference, "."))
		}
	}
}

// expressions gives those of a block and of the blocks in it.
func expressions(body hcl.Body) []hcl.Expression {
	var all []hcl.Expression
	if native, ok := body.(*hclsyntax.Body); ok {
		for _, a := range native.Attributes {
			all = append(all, a.Expr)
		}
		for _, b := range native.Blocks {
			all = append(all, expressions(b.Body)...)
		}
	} else {
		attributes, _ := body.JustAttributes() // in JSON, blocks look like attributes
		for _, a := range attributes {
			all = append(all, a.Expr)
		}
	}
	slices.SortFunc(all, func(a, b hcl.Expression) int { return a.Range().Start.Byte - b.Range().Start.Byte })
	return all
}

func attribute(body hcl.Body, name string) (*hcl.Attribute, bool) {
	content, _, _ := body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: name}}})
	a, ok := content.Attributes[name]
	return a, ok
}

// text gives how an expression is written.
func text(e hcl.Expression, source []byte) string { return string(e.Range().SliceBytes(source)) }
