package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// local is a value of a locals block.
type local struct {
	name string
	attr *hclsyntax.Attribute
	// read: value is there, or the local is bad: it has a mistake that has been
	// reported, or uses one that has.
	read, bad bool
	value     cty.Value
}

// locals reads the locals blocks: values that may use each other, in any order.
// From then on expressions may use them. complete: no block was lost to a mistake.
func (l *loader) readLocals(blocks []*hclsyntax.Block, complete bool) {
	l.locals, l.allLocals = make(map[string]*local), complete
	var order []*local
	for _, block := range blocks {
		l.withoutName(block)
		l.mark([]*hclsyntax.Block{block}, func(b *Block) { b.AnySetting = "any value" })
		for _, nested := range block.Body.Blocks {
			if !l.broken(nested.TypeRange) && !l.swallowed(nested) {
				l.report(nested.TypeRange, "Unknown block", "A locals block takes no block %q. Write %s = ... for a value.", nested.Type, nested.Type)
			}
		}
		for _, attr := range block.Body.Attributes {
			order = append(order, &local{name: attr.Name, attr: attr})
		}
	}
	slices.SortStableFunc(order, func(a, b *local) int { return compareRanges(a.attr.NameRange, b.attr.NameRange) })
	for _, x := range order {
		if first := l.locals[x.name]; first != nil {
			l.report(x.attr.NameRange, "Duplicate local", "There is a local %q already, at %s. Give this one another name.", x.name, place(first.attr.NameRange))
			continue
		}
		l.locals[x.name] = x
	}
	for _, x := range order {
		if l.locals[x.name] == x {
			l.readLocal(x, nil)
		}
	}
	for _, x := range order {
		if l.locals[x.name] != x {
			l.evaluateLocal(x) // for the mistakes in it
		}
	}
	values := make(map[string]cty.Value)
	for name, x := range l.locals {
		if !x.bad {
			values[name] = x.value
		}
	}
	variables := map[string]cty.Value{"local": cty.ObjectVal(values)}
	maps.Copy(variables, l.context.Variables)
	l.context.Variables = variables
}

// readLocal gives a local its value, after those that it uses. users are those
// that led here, the last one nearest.
func (l *loader) readLocal(x *local, users []*local) {
	if i := slices.Index(users, x); i >= 0 {
		l.reportLocalCircle(users[i:])
		return
	}
	if x.read {
		return
	}
	for _, used := range l.usedLocals(x) {
		l.readLocal(used, append(slices.Clip(users), x))
	}
	if !x.read { // else part of a circle
		l.evaluateLocal(x)
	}
}

// evaluateLocal evaluates a local, when all that it uses has been read.
func (l *loader) evaluateLocal(x *local) {
	values := make(map[string]cty.Value)
	for _, used := range l.usedLocals(x) {
		if used.read && !used.bad {
			values[used.name] = used.value
		}
	}
	all := l.context
	defer func() { l.context = all }()
	l.context = all.NewChild()
	l.context.Variables = map[string]cty.Value{"local": cty.ObjectVal(values)}
	x.read, x.bad = true, l.broken(x.attr.Range())
	if x.bad {
		return
	}
	value, ok := l.evaluate(x.attr.Expr)
	x.value, x.bad = value, !ok
}

// usedLocals gives the locals that one uses itself, in the order of the text.
func (l *loader) usedLocals(x *local) []*local {
	var used []*local
	for _, t := range x.attr.Expr.Variables() {
		if t.RootName() != "local" {
			continue
		}
		if name, ok := memberName(t); ok && l.locals[name] != nil && !slices.Contains(used, l.locals[name]) {
			used = append(used, l.locals[name])
		}
	}
	return used
}

// reportLocalCircle reports locals that use each other in a circle, at the first
// of them.
func (l *loader) reportLocalCircle(circle []*local) {
	first := 0
	for i, x := range circle {
		x.read, x.bad = true, true
		if compareRanges(x.attr.NameRange, circle[first].attr.NameRange) < 0 {
			first = i
		}
	}
	circle = append(slices.Clone(circle[first:]), circle[:first]...)
	if len(circle) == 1 {
		l.report(circle[0].attr.NameRange, "Circle of locals", "local.%s uses itself.", circle[0].name)
		return
	}
	var path strings.Builder
	for i, x := range circle {
		if i == 0 {
			fmt.Fprintf(&path, "local.%s uses ", x.name)
			continue
		}
		fmt.Fprintf(&path, "local.%s (%s), which uses ", x.name, place(x.attr.NameRange))
	}
	l.report(circle[0].attr.NameRange, "Circle of locals", "%slocal.%s again. One of them must do without the next.", path.String(), circle[0].name)
}

// checkLocal reports a use of a local that there is not.
func (l *loader) checkLocal(t hcl.Traversal) bool {
	if l.locals == nil {
		l.report(t.SourceRange(), "Unknown variable", "Locals are not known here: they may use what this says. Write the value itself.")
		return false
	}
	name, ok := memberName(t)
	if !ok {
		l.report(t.SourceRange(), "Unknown variable", "local stands for no value by itself. Write local.NAME.")
		return false
	}
	x := l.locals[name]
	if x != nil {
		return !x.bad
	}
	if !l.allLocals {
		return false
	}
	hint := didYouMean(name, slices.Sorted(maps.Keys(l.locals)))
	if hint == "" && len(l.locals) > 0 {
		hint = "The locals are " + list(slices.Collect(maps.Keys(l.locals))) + "."
	}
	l.report(t.SourceRange(), "Unknown local", "There is no local %q. %s", name, cmp.Or(hint, "Write locals { "+name+" = ... }."))
	return false
}

// memberName gives the name in local.NAME or local["NAME"].
func memberName(t hcl.Traversal) (string, bool) {
	if len(t) < 2 {
		return "", false
	}
	switch step := t[1].(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String && !step.Key.IsNull() {
			return step.Key.AsString(), true
		}
	}
	return "", false
}

// compareRanges orders places by file, then by position.
func compareRanges(a, b hcl.Range) int {
	return cmp.Or(cmp.Compare(a.Filename, b.Filename), cmp.Compare(a.Start.Byte, b.Start.Byte))
}
