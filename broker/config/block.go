package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// block is the inside of a block while it is read. It remembers what it was
// asked for: that is what it may contain, so the reader is the schema.
type block struct {
	l         *loader
	noun      string // "a pool"
	src       *hclsyntax.Body
	arguments []string
	nested    []string
	about     *Block // nil unless the file is described instead of read
}

func (l *loader) open(src *hclsyntax.Body, noun string) *block {
	return &block{l: l, noun: noun, src: src, about: l.described[src]}
}

// blocks gives the nested blocks of a type. doc says what they are for.
func (b *block) blocks(kind, doc string) []*hclsyntax.Block {
	b.nested = append(b.nested, kind)
	if b.about != nil {
		return b.describeBlock(kind, doc)
	}
	var found []*hclsyntax.Block
	for _, block := range b.src.Blocks {
		if block.Type == kind {
			found = append(found, block)
		}
	}
	return found
}

// setting is what an argument says, and where. The zero setting says nothing.
type setting[T any] struct {
	value T
	at    hcl.Range // of the value
	set   bool
	// bad: set, and reported. It still hides what it would have overridden, and
	// there is no sense in comparing it with anything.
	bad bool
}

// or gives the value, or another where there is none.
func (s setting[T]) or(other T) T {
	if s.set && !s.bad {
		return s.value
	}
	return other
}

// over gives s, or where s says nothing, what is inherited.
func (s setting[T]) over(inherited setting[T]) setting[T] {
	if s.set {
		return s
	}
	return inherited
}

// complaint is the end of a sentence that begins with the argument's name, such
// as `must be 0 or more, not -3.` "" is no complaint.
type complaint string

// read evaluates an argument and parses its value. A mistake is reported here.
// doc says what it is for; otherwise, what holds without it: a value, or words.
func read[T any](b *block, name string, f form[T], doc string, otherwise ...any) setting[T] {
	b.describe(name, f.kind, f.schema, doc, otherwise)
	return readExpression(b, name, func(v cty.Value, e hclsyntax.Expression) (T, bool) {
		value, wrong := f.parse(v)
		if wrong != "" {
			b.l.report(e.Range(), "Invalid "+name, "%s %s", name, wrong)
			if mayHoldSecret(name, v) {
				b.l.hide()
			}
		}
		return value, wrong == ""
	})
}

// readExpression is read for a parse that looks into the expression and reports
// by itself. It describes nothing.
func readExpression[T any](b *block, name string, parse func(cty.Value, hclsyntax.Expression) (T, bool)) setting[T] {
	b.arguments = append(b.arguments, name)
	attr := b.src.Attributes[name]
	if attr == nil {
		return setting[T]{}
	}
	s := setting[T]{at: attr.Expr.Range(), set: true}
	if b.l.broken(attr.Range()) {
		s.bad = true
		return s
	}
	v, ok := b.l.evaluate(attr.Expr)
	if !ok {
		s.bad = true
		return s
	}
	if v.IsNull() {
		return setting[T]{}
	}
	s.value, ok = parse(v, attr.Expr)
	s.bad = !ok
	return s
}

// finish reports what nobody asked for. It gives the names that were meant by
// it, where that is clear: these are not missing as well.
func (b *block) finish() (meant []string) {
	for _, attr := range b.src.Attributes {
		name := attr.Name
		if slices.Contains(b.arguments, name) || b.l.broken(attr.NameRange) {
			continue
		}
		instead, says := b.unknownArgument(name)
		meant = append(meant, instead)
		b.l.report(attr.NameRange, "Unknown argument", "%s takes no argument %q. %s", capital(b.noun), name, says)
	}
	for _, block := range b.src.Blocks {
		if slices.Contains(b.nested, block.Type) || b.l.broken(block.TypeRange) || b.l.swallowed(block) {
			continue
		}
		instead, says := b.unknownBlock(block.Type)
		meant = append(meant, instead)
		b.l.report(block.TypeRange, "Unknown block", "%s takes no block %q. %s", capital(b.noun), block.Type, says)
	}
	return slices.DeleteFunc(meant, func(name string) bool { return name == "" })
}

// swallowed tells whether a block stands in another one, because the brace that
// closes that one is missing.
func (l *loader) swallowed(block *hclsyntax.Block) bool {
	return l.syntax.HasErrors() && standsAlone(block.Type)
}

// standsAlone tells whether blocks of a type belong to the file itself.
func standsAlone(kind string) bool {
	return slices.Contains([]string{"environment", "locals", "terraform", "account", "inventory", "legacy", "policy", "reload", "tenant_defaults", "defaults", "template", "pool", "moved"}, kind)
}

func (b *block) unknownArgument(name string) (meant, says string) {
	if slices.Contains(b.nested, name) {
		return name, "It is a block: write " + name + " { ... }, without the equals sign."
	}
	if near := suggest(name, b.arguments); near != "" {
		return near, didYouMean(name, b.arguments)
	}
	if len(b.arguments) == 0 {
		return "", "Arguments stand in its blocks: " + list(b.nested) + "."
	}
	says = "It takes " + list(b.arguments) + "."
	if slices.Contains(b.arguments, "variables") {
		says += " What is meant for the module goes into variables = { ... }."
	}
	if slices.Contains(b.arguments, "attributes") {
		says += " What pools choose by goes into attributes = { ... }."
	}
	return "", says
}

func (b *block) unknownBlock(kind string) (meant, says string) {
	if slices.Contains(b.arguments, kind) {
		return kind, "It is an argument: put an equals sign behind its name."
	}
	if standsAlone(kind) {
		return "", "It stands on its own: write it outside, behind the brace that closes this block."
	}
	if near := suggest(kind, b.nested); near != "" {
		return near, didYouMean(kind, b.nested)
	}
	if len(b.nested) == 0 {
		return "", "It takes arguments only: " + list(b.arguments) + "."
	}
	return "", "It takes " + list(b.nested) + "."
}

// evaluate gives the value of an expression, known as a whole, or reports why
// it has none.
func (l *loader) evaluate(e hclsyntax.Expression) (cty.Value, bool) {
	known := true
	for _, t := range e.Variables() {
		if !l.checkVariable(t) {
			known = false
		}
	}
	if !known {
		return cty.NilVal, false
	}
	v, diags := e.Value(l.context)
	for _, d := range diags {
		// The library picks any near name, and not always the same one.
		if f, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallUnknownDiagExtra](d); ok {
			name := f.CalledFunctionNamespace() + f.CalledFunctionName()
			d.Summary = "Unknown function"
			d.Detail = fmt.Sprintf("There is no function %q. ", name) + cmp.Or(leftOut()[name], didYouMean(name, slices.Sorted(maps.Keys(l.functions))),
				"The functions are Terraform's, without those that give another result each time.")
		}
	}
	l.diags = append(l.diags, diags...)
	if diags.HasErrors() {
		return cty.NilVal, false
	}
	if !v.IsWhollyKnown() {
		l.report(e.Range(), "Unknown value", "The value can't be told from this file alone.")
		return cty.NilVal, false
	}
	return v, true
}

// checkVariable reports a reference to a variable that does not exist.
func (l *loader) checkVariable(t hcl.Traversal) bool {
	name := t.RootName()
	switch name {
	case "local":
		return l.checkLocal(t)
	case "each":
		return l.checkEach(t)
	}
	if name != "path" {
		switch {
		case len(t) == 1:
			l.report(t.SourceRange(), "Unknown variable", "There is no variable %q. To mean the text, put it in quotes: %q.", name, name)
		default:
			l.report(t.SourceRange(), "Unknown variable", "There is no variable %q. "+
				"There are path.root, the directory of this file, and local.NAME for what stands in a locals block.", name)
		}
		return false
	}
	if len(t) > 1 {
		if attr, ok := t[1].(hcl.TraverseAttr); ok && attr.Name != "root" {
			l.report(t.SourceRange(), "Unknown variable", "There is no variable \"path.%s\". Did you mean path.root, the directory of this file?", attr.Name)
			return false
		}
	}
	return true
}
