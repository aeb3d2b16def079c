package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// instance is one of the pools that a block with for_each stands for.
type instance struct {
	block *hclsyntax.Block
	key   string
	value cty.Value
	// of is how many the block stands for. With 0 nobody knows key and value: the
	// block is looked through for mistakes only.
	of int
	// at is the place of for_each.
	at hcl.Range
}

// instances gives what a block stands for: itself, which is nil, without
// for_each; else an instance for each element. good is false if for_each has a
// mistake.
func (l *loader) instances(block *hclsyntax.Block) (each []*instance, good bool) {
	attr := block.Body.Attributes["for_each"]
	if attr == nil || block.Type != "pool" {
		return []*instance{nil}, true
	}
	if l.broken(attr.Range()) {
		return nil, false
	}
	at := attr.Expr.Range()
	v, ok := l.evaluate(attr.Expr)
	if !ok {
		return nil, false
	}
	kind := v.Type()
	wrong := ""
	switch {
	case v.IsNull():
		wrong = "not null. For no pools at all, write {}."
	case kind.IsTupleType() || kind.IsListType():
		wrong = "not a list. Write toset([...]) for texts, or { for x in ... : KEY => x } for anything else."
	case kind.IsSetType() && kind.ElementType() != cty.String && v.LengthInt() > 0:
		wrong = fmt.Sprintf("not a set of %s. Write toset([for x in ... : tostring(x)]), or { for x in ... : KEY => x }.", kind.ElementType().FriendlyNameForConstraint())
	case !kind.IsSetType() && !kind.IsMapType() && !kind.IsObjectType():
		wrong = "not " + describe(v) + "."
	}
	if wrong != "" {
		l.report(at, "Invalid for_each", "for_each must be a map, an object or a set of texts, %s", wrong)
		return nil, false
	}
	for it := v.ElementIterator(); it.Next(); {
		key, value := it.Element()
		if key.IsNull() {
			l.report(at, "Invalid for_each", "for_each must be a map, an object or a set of texts, and one of its elements is null.")
			return nil, false
		}
		each = append(each, &instance{block: block, key: key.AsString(), value: value, at: at})
	}
	for _, e := range each {
		e.of = len(each)
	}
	return each, true
}

// within reads something for an instance: expressions have its each, and the
// mistakes found are its own.
func (l *loader) within(e *instance, read func()) {
	if e == nil {
		read()
		return
	}
	context, outer := l.context, l.each
	defer func() { l.context, l.each = context, outer }()
	l.each = e
	if e.of > 0 {
		l.context = context.NewChild()
		l.context.Variables = map[string]cty.Value{
			"each": cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(e.key), "value": e.value}),
		}
	}
	before := len(l.diags)
	read()
	for _, d := range l.diags[before:] {
		l.owners[d] = e
	}
}

// checkEach reports a use of each that has no value.
func (l *loader) checkEach(t hcl.Traversal) bool {
	name, _ := memberName(t)
	switch {
	case l.each == nil:
		l.report(t.SourceRange(), "Unknown variable", "each belongs to a pool with for_each, and is known in the pool block itself: a template or defaults say the same for all. "+
			"Write this in the pool; variables are inherited one by one, so the pool says only those that differ.")
		return false
	case name != "key" && name != "value":
		l.report(t.SourceRange(), "Unknown variable", "There is no such variable of each. There are each.key and each.value.")
		return false
	}
	return l.each.of > 0
}

// instanceName gives the name of a pool, and the place that it comes from.
func (l *loader) instanceName(block *hclsyntax.Block, e *instance, name setting[string]) (string, hcl.Range) {
	switch {
	case e == nil && name.set:
		l.report(name.at, "Name without for_each", "A pool without for_each has the name that stands behind the word pool. Write pool \"NAME\" { ... }, and remove name.")
		fallthrough
	case e == nil:
		if len(block.Labels) == 0 {
			return "", hcl.Range{}
		}
		return block.Labels[0], block.LabelRanges[0]
	case name.bad || len(block.Labels) == 0:
		return "", hcl.Range{}
	case name.set:
		if e.of > 0 && !validName(name.value) {
			l.report(name.at, "Invalid name", "%q can't be the name of a pool. %s", name.value, nameRule)
		}
		return name.value, name.at
	}
	whole := block.Labels[0] + "-" + e.key
	if e.of > 0 && validName(block.Labels[0]) && !validName(whole) {
		l.report(e.at, "Invalid name", "%q can't be the name of a pool. %s Use other keys, or say it with name = \"...\".", whole, nameRule)
	}
	return whole, e.at
}

// keyed says of mistakes in blocks with for_each which instances have them, unless
// all do, and each once.
func (l *loader) keyed(diags hcl.Diagnostics) hcl.Diagnostics {
	type mistake struct {
		block           *hclsyntax.Block
		at              hcl.Range
		summary, detail string
	}
	of := func(d *hcl.Diagnostic) mistake {
		m := mistake{block: l.owners[d].block, summary: d.Summary, detail: d.Detail}
		if d.Subject != nil {
			m.at = *d.Subject
		}
		return m
	}
	keys := make(map[mistake][]string)
	for _, d := range diags {
		if e := l.owners[d]; e != nil && !slices.Contains(keys[of(d)], e.key) {
			keys[of(d)] = append(keys[of(d)], e.key)
		}
	}
	var kept hcl.Diagnostics
	for _, d := range diags {
		e := l.owners[d]
		if e == nil {
			kept = append(kept, d)
			continue
		}
		m := of(d)
		with := keys[m]
		if with == nil { // said already
			continue
		}
		delete(keys, m)
		if len(with) < e.of {
			d.Detail = fmt.Sprintf("%s This is so for each.key %s.", d.Detail, quotedKeys(with))
		}
		kept = append(kept, d)
	}
	return kept
}

// quotedKeys writes keys for the middle of a sentence, and not too many of them.
func quotedKeys(keys []string) string {
	const most = 3
	quoted := make([]string, 0, most+1)
	for i, key := range keys {
		if i == most && len(keys) > most+1 {
			quoted = append(quoted, fmt.Sprintf("%d others", len(keys)-most))
			break
		}
		quoted = append(quoted, fmt.Sprintf("%q", key))
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " and " + quoted[len(quoted)-1]
}
