package terraform

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"

	"github.com/duffy-broker/duffy-broker/broker"
)

// brokerVariable is the input of the module contract.
const brokerVariable = "broker"

// contractNames are the outputs of the module contract.
func contractNames() []string {
	return []string{"ipaddr", "hostname", "ssh_user", "ssh_port", "ssh_host_keys", "data"}
}

// module is what a module declares. It is read here and not with a library, since
// the ones there are don't see backend blocks, which would take the state away
// from the broker.
type module struct {
	variables map[string]bool // to whether it has a default
	sensitive map[string]bool // the same, to whether they are
	outputs   map[string]bool // to whether it is sensitive
	calls     []call
	backends  []string // positions of backend and cloud blocks
	resources []string // positions of resource blocks
}

// call is a use of another module.
type call struct {
	name, source, pos string
}

// readModule reads the declarations of the module in dir. Positions are relative
// to root.
func readModule(root, dir string) (module, hcl.Diagnostics) {
	m := module{variables: map[string]bool{}, sensitive: map[string]bool{}, outputs: map[string]bool{}}
	var diags hcl.Diagnostics
	parser := hclparse.NewParser()
	for _, file := range moduleFiles(dir) {
		parse := parser.ParseHCLFile
		if strings.HasSuffix(file, ".json") {
			parse = parser.ParseJSONFile
		}
		f, d := parse(file)
		diags = append(diags, d...)
		if f == nil {
			continue
		}
		content, _, d := f.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "variable", LabelNames: []string{"name"}},
			{Type: "output", LabelNames: []string{"name"}},
			{Type: "module", LabelNames: []string{"name"}},
			{Type: "resource", LabelNames: []string{"type", "name"}},
			{Type: "terraform"},
		}})
		diags = append(diags, d...)
		for _, block := range content.Blocks {
			m.add(root, block)
		}
	}
	return m, diags
}

func (m *module) add(root string, block *hcl.Block) {
	switch block.Type {
	case "variable":
		_, hasDefault := literal(block.Body, "default")
		m.variables[block.Labels[0]] = hasDefault
		v, _ := literal(block.Body, "sensitive")
		m.sensitive[block.Labels[0]] = v.RawEquals(cty.True)
	case "output":
		v, _ := literal(block.Body, "sensitive")
		m.outputs[block.Labels[0]] = v.RawEquals(cty.True)
	case "resource":
		m.resources = append(m.resources, fmt.Sprintf("%s: resource %q %q", position(root, block.DefRange), block.Labels[0], block.Labels[1]))
	case "module":
		c := call{name: block.Labels[0], pos: position(root, block.DefRange)}
		if v, _ := literal(block.Body, "source"); v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
			c.source = v.AsString()
		}
		m.calls = append(m.calls, c)
	case "terraform":
		content, _, _ := block.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "backend", LabelNames: []string{"type"}}, {Type: "cloud"},
		}})
		for _, b := range content.Blocks {
			m.backends = append(m.backends, position(root, b.DefRange)+": block \""+b.Type+"\"")
		}
	}
}

// literal gives the value of an attribute that refers to nothing, and whether
// the attribute is there at all.
func literal(body hcl.Body, name string) (cty.Value, bool) {
	content, _, _ := body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: name}}})
	attribute, ok := content.Attributes[name]
	if !ok {
		return cty.DynamicVal, false
	}
	v, _ := attribute.Expr.Value(nil)
	return v, true
}

func position(root string, r hcl.Range) string {
	name, err := filepath.Rel(root, r.Filename)
	if err != nil {
		name = r.Filename
	}
	return fmt.Sprintf("%s:%d", name, r.Start.Line)
}

func moduleFiles(dir string) []string {
	var files []string
	for _, pattern := range []string{"*.tf", "*.tf.json"} {
		found, _ := filepath.Glob(filepath.Join(escapeGlob(dir), pattern)) // only a bad pattern is an error
		files = append(files, found...)
	}
	slices.Sort(files)
	return files
}

func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}

// checkContract compares a module with the contract and with the variables that
// a pool gives it.
func (m module) checkContract(variables map[string]any) []*broker.Error {
	var problems []*broker.Error
	report := func(hint, format string, args ...any) {
		e := broker.Errorf(broker.CodeInvalid, format, args...)
		if hint != "" {
			e = e.WithHint("%s", hint)
		}
		problems = append(problems, e)
	}
	if _, ok := m.variables[brokerVariable]; !ok {
		report("add this to a .tf file of the module:\n"+
			"  variable \"broker\" {\n    type = object({ id = string, node_id = string, tags = map(string), directory = string })\n  }",
			"it has no variable \"broker\"")
	}
	if _, ok := m.outputs["ipaddr"]; !ok {
		report("add this to a .tf file of the module, with the address of what it makes:\n"+
			"  output \"ipaddr\" {\n    value = aws_instance.node.private_ip\n  }",
			"it has no output \"ipaddr\"")
	}
	for _, name := range contractNames() {
		if m.outputs[name] {
			report("what a node outputs is shown to its tenant: remove \"sensitive\", or wrap the value in nonsensitive()",
				"its output %q is sensitive", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if name == brokerVariable {
			report("remove it from the pool", "the variable \"broker\" is set by the broker itself")
			continue
		}
		if _, ok := m.variables[name]; ok {
			continue
		}
		hint := "it declares: " + strings.Join(m.own(), ", ")
		if nearest := nearest(name, m.own()); nearest != "" {
			hint = fmt.Sprintf("did you mean %q?", nearest)
		}
		report(hint, "it has no variable %q, which the pool sets", name)
	}
	for _, name := range m.own() {
		if _, given := variables[name]; !given && !m.variables[name] {
			report("set it in the pool, or give it a default in the module", "its variable %q has no default, and the pool does not set it", name)
		}
	}
	return problems
}

// checkBackends refuses blocks that put the state elsewhere.
func (m module) checkBackends() []*broker.Error {
	var problems []*broker.Error
	for _, b := range m.backends {
		problems = append(problems, broker.Errorf(broker.CodeInvalid, "%s: the broker keeps the state itself", b).
			WithHint("remove the block"))
	}
	return problems
}

// own lists the module's variables other than the contract's.
func (m module) own() []string {
	names := slices.Sorted(maps.Keys(m.variables))
	return slices.DeleteFunc(names, func(name string) bool { return name == brokerVariable })
}

func nearest(name string, candidates []string) string {
	best, bestDistance := "", 3
	for _, c := range candidates {
		if d := levenshtein.Distance(name, c, nil); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// checkSources looks for uses of modules outside the module's own tree: those
// would not be in the copy that nodes are made from.
func checkSources(root string) []*broker.Error {
	return walkSources(root, ".", func(module) {})
}

// walkSources is checkSources from a directory of the tree on. visit gets each
// module on the way.
func walkSources(root, from string, visit func(module)) []*broker.Error {
	var problems []*broker.Error
	seen := map[string]bool{}
	var walk func(dir string)
	walk = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		m, _ := readModule(root, filepath.Join(root, filepath.FromSlash(dir)))
		visit(m)
		for _, c := range m.calls {
			local := strings.HasPrefix(c.source, "./") || strings.HasPrefix(c.source, "../")
			target := path.Join(dir, c.source)
			switch {
			case path.IsAbs(c.source), local && !filepath.IsLocal(target):
				problems = append(problems, broker.Errorf(broker.CodeInvalid,
					"%s: module %q has the source %q, outside of the module's directory", c.pos, c.name, c.source).
					WithHint("a pool's module is copied as one tree: move the other module into it, or use a git or registry source with a version"))
			case local:
				walk(target)
			}
		}
	}
	walk(from)
	return problems
}
