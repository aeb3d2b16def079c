package terraform

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"
)

// brokerVariable is the input of the module contract.
const brokerVariable = "broker"

// contractNames are the outputs of the module contract.
func contractNames() []string {
	return []string{"ipaddr", "hostname", "ssh_user", "ssh_port", "ssh_host_keys", "data"}
}

// module is what a module declares. It is read here and not with a library: the
// ones there are see neither backend blocks, which would take the state away from
// the broker, nor the types of variables, but as text.
type module struct {
	files     []string // names, relative to the root
	variables map[string]variable
	outputs   map[string]declaration
	calls     []call
	backends  []declaration
	resources []declaration
	providers requirements
	problems  []Problem // in what was read, which is good HCL
	root      string
}

// declaration is a block, such as `output "ipaddr"`.
type declaration struct {
	name      string    // as it is written in the middle of a sentence
	at        hcl.Range // of its first line, relative to the root
	sensitive bool      // of an output
}

// call is a use of another module.
type call struct {
	name, source string
	at           hcl.Range
}

// readModule reads the declarations of the module in dir. Places are relative to
// root.
func readModule(root, dir string) (module, hcl.Diagnostics) {
	m := module{variables: map[string]variable{}, outputs: map[string]declaration{}, providers: newRequirements(), root: root}
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
		m.files = append(m.files, file)
		content, _, d := f.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "variable", LabelNames: []string{"name"}},
			{Type: "output", LabelNames: []string{"name"}},
			{Type: "module", LabelNames: []string{"name"}},
			{Type: "resource", LabelNames: []string{"type", "name"}},
			{Type: "data", LabelNames: []string{"type", "name"}},
			{Type: "provider", LabelNames: []string{"name"}},
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
	at := inModule(root, block.DefRange)
	switch block.Type {
	case "variable":
		m.addVariable(root, block)
	case "output":
		v, _ := literal(block.Body, "sensitive")
		m.outputs[block.Labels[0]] = declaration{at: at, sensitive: v.RawEquals(cty.True)}
	case "resource":
		m.resources = append(m.resources, declaration{name: fmt.Sprintf("resource %q %q", block.Labels[0], block.Labels[1]), at: at})
		m.providers.use(block, at)
	case "data":
		m.providers.use(block, at)
	case "provider":
		m.providers.configure(block.Labels[0], at)
	case "module":
		c := call{name: block.Labels[0], at: at}
		if v, _ := literal(block.Body, "source"); v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
			c.source = v.AsString()
		}
		m.calls = append(m.calls, c)
	case "terraform":
		content, _, _ := block.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "backend", LabelNames: []string{"type"}}, {Type: "cloud"}, {Type: "required_providers"},
		}})
		for _, b := range content.Blocks {
			if b.Type == "required_providers" {
				m.providers.require(root, b)
				continue
			}
			m.backends = append(m.backends, declaration{name: "block \"" + b.Type + "\"", at: inModule(root, b.DefRange)})
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

// inModule makes the file name of a place relative to the module in root.
func inModule(root string, r hcl.Range) hcl.Range {
	if name, err := filepath.Rel(root, r.Filename); err == nil {
		r.Filename = filepath.ToSlash(name)
	}
	return r
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
func (m module) checkContract(variables map[string]any) []Problem {
	var problems []Problem
	report := func(p Problem) { problems = append(problems, p) }
	if v, ok := m.variables[brokerVariable]; !ok {
		report(mistake("Missing variable", m.end("variables"), "it has no variable %q", brokerVariable).
			hint("add this to a .tf file of the module:\n" +
				"  variable \"broker\" {\n    type = object({ id = string, node_id = string, tags = map(string), directory = string })\n  }"))
	} else if wrong := v.refuses(brokerExample()); wrong != "" {
		report(mistake("Wrong type", v.typeAt, "its variable %q does not take what the broker gives it: %s", brokerVariable, wrong).
			hint("its type is an object with some of the attributes that modules/README.md lists"))
	}
	if _, ok := m.outputs["ipaddr"]; !ok {
		report(mistake("Missing output", m.end("outputs"), "it has no output %q", "ipaddr").
			hint("add this to a .tf file of the module, with the address of what it makes:\n" +
				"  output \"ipaddr\" {\n    value = aws_instance.node.private_ip\n  }"))
	}
	for _, name := range contractNames() {
		if o := m.outputs[name]; o.sensitive {
			report(mistake("Sensitive output", o.at, "its output %q is sensitive", name).
				hint("what a node outputs is shown to its tenant: remove \"sensitive\", or wrap the value in nonsensitive()"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if name == brokerVariable {
			report(mistake("Variable of the broker", m.variables[name].at, "the variable %q is set by the broker itself", name).
				about("variables").of(name, false).hint("remove it from the pool"))
			continue
		}
		if _, ok := m.variables[name]; ok {
			continue
		}
		p := mistake("Unknown variable", m.end("variables"), "it has no variable %q, which the pool sets", name).of(name, secretName.MatchString(name))
		switch near := nearest(name, m.own()); {
		case near != "":
			p.ModuleRange = m.variables[near].at
			p.Secret = p.Secret || m.variables[near].secret()
			p = p.hint("did you mean %q?", near)
		case len(m.own()) == 0:
			p = p.hint("it declares none besides %q: remove it from the pool", brokerVariable)
		default:
			p = p.hint("it declares: %s", strings.Join(m.own(), ", "))
		}
		report(p)
	}
	return slices.Concat(m.problems, problems, m.checkVariables(variables, "its"))
}

// end gives the place where a declaration would go: the end of the file that is
// named for its kind, else of main, else of the last one.
func (m module) end(kind string) hcl.Range {
	for _, name := range []string{kind + ".tf", "main.tf"} {
		for _, file := range m.files {
			if filepath.Base(file) == name {
				return endOf(m.root, file)
			}
		}
	}
	if len(m.files) == 0 {
		return hcl.Range{}
	}
	return endOf(m.root, m.files[len(m.files)-1])
}

// endOf gives the place behind the last character of a file that is not a space.
func endOf(root, file string) hcl.Range {
	at := inModule(root, hcl.Range{Filename: file, Start: hcl.InitialPos})
	if src, err := os.ReadFile(file); err == nil { //nolint:gosec // a file of the module
		src = bytes.TrimRight(src, " \t\r\n")
		last := src[bytes.LastIndexByte(src, '\n')+1:]
		at.Start = hcl.Pos{Line: 1 + bytes.Count(src, []byte("\n")), Column: 1 + utf8.RuneCount(last), Byte: len(src)}
	}
	at.End = at.Start
	return at
}

// checkBackends refuses blocks that put the state elsewhere.
func (m module) checkBackends() []Problem {
	var problems []Problem
	for _, b := range m.backends {
		problems = append(problems, mistake("State kept elsewhere", b.at, "%s: the broker keeps the state itself", b.name).hint("remove the block"))
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
func checkSources(root string) []Problem {
	return walkSources(root, ".", func(module) {})
}

// walkSources is checkSources from a directory of the tree on. visit gets each
// module on the way.
func walkSources(root, from string, visit func(module)) []Problem {
	var problems []Problem
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
				problems = append(problems, mistake("Module from outside", c.at,
					"module %q has the source %q, outside of the module's directory", c.name, c.source).
					hint("a pool's module is copied as one tree: move the other module into it, or use a git or registry source with a version"))
			case local:
				walk(target)
			}
		}
	}
	walk(from)
	return problems
}
