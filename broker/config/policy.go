package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Rule is a deny or warn block of the policy: what it objects to, in a change from
// the pools that run to those of the file.
type Rule struct {
	Name string
	Deny bool // false: it warns

	condition, message hcl.Expression
	context            *hcl.EvalContext
	// perPool: it is asked of each pool, not once of all.
	perPool bool
}

// PoolChange is what a rule is asked about.
type PoolChange struct {
	Old, New *broker.Pool // nil: there is none
	Stock    Stock        // of the old pool
}

// Stock counts the nodes of a pool.
type Stock struct {
	Ready int `json:"ready"` // in stock
	Lent  int `json:"lent"`  // in sessions
	Total int `json:"total"` // all that may hold resources
}

// Objection is what a rule has to say.
type Objection struct {
	Rule    string
	Pool    string // "" if it is about the file as a whole
	Deny    bool
	Message string
}

// The variables of rules.
const (
	ruleOld   = "old"
	ruleNew   = "new"
	ruleStock = "stock"
	rulePools = "pools"
)

// policy reads the policy block.
func (l *loader) policy(blocks []*hclsyntax.Block) []Rule {
	l.once(blocks)
	l.mark(blocks, func(b *Block) { b.Once = true })
	var rules []Rule
	for i, block := range blocks {
		b := l.open(block.Body, "a policy block")
		deny := b.blocks("deny", "What the broker refuses: `duffy-broker plan` exits with 3, and a reload changes nothing.")
		warn := b.blocks("warn", "What `duffy-broker plan` and a reload warn of.")
		l.mark(slices.Concat(deny, warn), func(b *Block) { b.Labelled = true })
		first := make(map[string]hcl.Range)
		var own []Rule
		for _, r := range slices.Concat(deny, warn) {
			own = append(own, l.rule(r, first))
		}
		b.finish()
		if i == 0 {
			rules = own
		}
	}
	return rules
}

// rule reads one deny or warn block.
func (l *loader) rule(block *hclsyntax.Block, first map[string]hcl.Range) Rule {
	r := Rule{Deny: block.Type == "deny", context: l.context}
	b := l.open(block.Body, "a "+block.Type+" block")
	r.condition = l.ruleExpression(b, "condition", cty.Bool, "`true` or `false`, found anew for each pool that changes",
		"What the rule objects to. It may use `old` and `new`, the pool before and after (`null` where there is none), with the names that their settings have in JSON, lengths of time in seconds; "+
			"`stock`, the `ready`, `lent` and `total` nodes that the pool has; and `pools.old` and `pools.new`, lists of all pools.", needed{})
	r.message = l.ruleExpression(b, "message", cty.String, "text, found anew for each pool that changes", "What is wrong, and what to do instead. It may use what `condition` may.", "the rule's name")
	meant := b.finish()
	if block.Body.Attributes["condition"] == nil && !slices.Contains(meant, "condition") && !l.broken(block.Range()) {
		l.report(block.DefRange(), "Missing condition", "A %s block says what it objects to. Write condition = ..., such as new != null && new.max_nodes > 100.", block.Type)
	}
	l.checkName(block)
	if len(block.Labels) > 0 {
		r.Name = block.Labels[0]
		if at, taken := first[r.Name]; taken {
			l.report(block.LabelRanges[0], "Duplicate rule", "There is a rule %q already, at %s. Give this one another name.", r.Name, place(at))
		} else {
			first[r.Name] = block.LabelRanges[0]
		}
	}
	for _, e := range []hcl.Expression{r.condition, r.message} {
		if e == nil {
			continue
		}
		for _, t := range e.Variables() {
			r.perPool = r.perPool || slices.Contains([]string{ruleOld, ruleNew, ruleStock}, t.RootName())
		}
	}
	return r
}

// ruleExpression gives an expression whose variables are known with a change
// only, or nil.
func (l *loader) ruleExpression(b *block, name string, want cty.Type, kind, doc string, otherwise ...any) hcl.Expression {
	b.describe(name, kind, schema{"type": "string"}, doc, otherwise)
	b.arguments = append(b.arguments, name)
	attr := b.src.Attributes[name]
	if attr == nil || l.broken(attr.Range()) {
		return nil
	}
	names := []string{ruleOld, ruleNew, ruleStock, rulePools}
	for _, t := range attr.Expr.Variables() {
		switch root := t.RootName(); {
		case slices.Contains(names, root):
		case root == "path" || root == "local":
			if !l.checkVariable(t) {
				return nil
			}
		default:
			l.report(t.SourceRange(), "Unknown variable", "%s", strings.TrimSpace(fmt.Sprintf("There is no variable %q here. The variables are %s. %s", root, list(names), didYouMean(root, names))))
			return nil
		}
	}
	context := l.context.NewChild()
	context.Variables = unknownChange()
	v, diags := attr.Expr.Value(context)
	l.diags = append(l.diags, diags...)
	if diags.HasErrors() {
		return nil
	}
	if _, err := convert.Convert(v, want); err != nil || v.IsKnown() && v.IsNull() {
		what := "true or false"
		if want == cty.String {
			what = "text in quotes"
		}
		l.report(attr.Expr.Range(), "Invalid "+name, "%s %s", name, mustBe(what, v))
		return nil
	}
	return attr.Expr
}

// unknownChange are the variables of a rule before there is a change: their types
// are known, so that a setting that does not exist is found.
func unknownChange() map[string]cty.Value {
	pool := typeOf(reflect.TypeFor[broker.Pool]())
	return map[string]cty.Value{
		ruleOld:   cty.UnknownVal(pool),
		ruleNew:   cty.UnknownVal(pool),
		ruleStock: cty.UnknownVal(typeOf(reflect.TypeFor[Stock]())).RefineNotNull(),
		rulePools: cty.ObjectVal(map[string]cty.Value{
			"old": cty.DynamicVal, "new": cty.DynamicVal,
		}),
	}
}

// CheckPolicy asks all rules about all changes; those of pools that stay as they
// are may be left out, but for old and new, which are all pools. A rule that can't
// be evaluated objects: it may be there for just this case.
func (f *File) CheckPolicy(changes []PoolChange, old, new []broker.Pool) []Objection {
	if len(f.Policy) == 0 {
		return nil
	}
	all := cty.ObjectVal(map[string]cty.Value{"old": poolList(old), "new": poolList(new)})
	var objections []Objection
	for _, r := range f.Policy {
		if !r.perPool {
			objections = append(objections, r.ask("", map[string]cty.Value{rulePools: all})...)
			continue
		}
		for _, c := range changes {
			name := ""
			if c.Old != nil {
				name = c.Old.Name
			}
			if c.New != nil {
				name = c.New.Name
			}
			objections = append(objections, r.ask(name, map[string]cty.Value{
				ruleOld: poolValue(c.Old), ruleNew: poolValue(c.New), ruleStock: valueOf(reflect.ValueOf(c.Stock)), rulePools: all,
			})...)
		}
	}
	return objections
}

func (r Rule) ask(pool string, variables map[string]cty.Value) []Objection {
	context := r.context.NewChild()
	context.Variables = variables
	o := Objection{Rule: r.Name, Pool: pool, Deny: r.Deny}
	v, diags := r.condition.Value(context)
	if !diags.HasErrors() {
		var err error
		if v, err = convert.Convert(v, cty.Bool); err == nil && v.IsKnown() && !v.IsNull() {
			if v.False() {
				return nil
			}
			o.Message = r.text(context)
			return []Objection{o}
		}
	}
	o.Message = "its condition can't be evaluated"
	if diags.HasErrors() {
		o.Message += ": " + diags[0].Summary + "; " + diags[0].Detail
	} else {
		o.Message += ": it is neither true nor false"
	}
	return []Objection{o}
}

// text gives what the rule says.
func (r Rule) text(context *hcl.EvalContext) string {
	if r.message == nil {
		return r.Name
	}
	v, diags := r.message.Value(context)
	if !diags.HasErrors() {
		if v, err := convert.Convert(v, cty.String); err == nil && v.IsKnown() && !v.IsNull() {
			return v.AsString()
		}
	}
	return r.Name
}

func poolList(pools []broker.Pool) cty.Value {
	list := make([]cty.Value, 0, len(pools))
	for i := range pools {
		list = append(list, poolValue(&pools[i]))
	}
	return cty.TupleVal(list)
}

func poolValue(p *broker.Pool) cty.Value {
	if p == nil {
		return cty.NullVal(cty.DynamicPseudoType)
	}
	return valueOf(reflect.ValueOf(*p))
}

// fieldsOf gives the exported fields of a struct by their names in JSON, but
// those that say what a pool is made from: they are no settings.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" && t.Field(i).Type != reflect.TypeFor[broker.Source]() {
			fields[name] = i
		}
	}
	return fields
}

// typeOf gives the type of the values that valueOf makes.
func typeOf(t reflect.Type) cty.Type {
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return cty.DynamicPseudoType
	case t == reflect.TypeFor[time.Duration]():
		return cty.Number
	}
	switch t.Kind() { //nolint:exhaustive // the others are no settings
	case reflect.Struct:
		attributes := make(map[string]cty.Type)
		for name, i := range fieldsOf(t) {
			attributes[name] = typeOf(t.Field(i).Type)
		}
		return cty.Object(attributes)
	case reflect.String:
		return cty.String
	case reflect.Bool:
		return cty.Bool
	case reflect.Int, reflect.Int64, reflect.Float64:
		return cty.Number
	case reflect.Map:
		return cty.Map(typeOf(t.Elem()))
	}
	return cty.DynamicPseudoType
}

// valueOf makes a value for expressions. Lengths of time are in seconds.
func valueOf(v reflect.Value) cty.Value {
	switch x := v.Interface().(type) {
	case json.RawMessage:
		if len(x) == 0 {
			return cty.EmptyObjectVal
		}
		t, err := ctyjson.ImpliedType(x)
		if err != nil {
			return cty.EmptyObjectVal
		}
		value, err := ctyjson.Unmarshal(x, t)
		if err != nil {
			return cty.EmptyObjectVal
		}
		return value
	case time.Duration:
		return cty.NumberFloatVal(x.Seconds())
	}
	switch v.Kind() { //nolint:exhaustive // the others are no settings
	case reflect.Struct:
		attributes := make(map[string]cty.Value)
		for name, i := range fieldsOf(v.Type()) {
			attributes[name] = valueOf(v.Field(i))
		}
		return cty.ObjectVal(attributes)
	case reflect.String:
		return cty.StringVal(v.String())
	case reflect.Bool:
		return cty.BoolVal(v.Bool())
	case reflect.Int, reflect.Int64:
		return cty.NumberIntVal(v.Int())
	case reflect.Float64:
		return cty.NumberFloatVal(v.Float())
	case reflect.Pointer:
		if v.IsNil() {
			return cty.NullVal(cty.DynamicPseudoType)
		}
		return valueOf(v.Elem())
	case reflect.Map:
		values := make(map[string]cty.Value)
		for _, key := range v.MapKeys() {
			values[key.String()] = valueOf(v.MapIndex(key))
		}
		if len(values) == 0 {
			return cty.MapValEmpty(typeOf(v.Type().Elem()))
		}
		return cty.MapVal(values)
	case reflect.Slice:
		values := make([]cty.Value, 0, v.Len())
		for i := range v.Len() {
			values = append(values, valueOf(v.Index(i)))
		}
		return cty.TupleVal(values)
	}
	return cty.NullVal(cty.DynamicPseudoType)
}
