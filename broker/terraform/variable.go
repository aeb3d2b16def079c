package terraform

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// variable is an input that a module declares. Its validation blocks are left to
// Terraform.
type variable struct {
	name       string
	at, typeAt hcl.Range // of the block's first line and of its type; relative to the root
	optional   bool      // has a default
	sensitive  bool
	notNull    bool
	constraint cty.Type
	defaults   *typeexpr.Defaults // of optional attributes
}

// invalidType is the summary of a mistake that Terraform reports as well.
const invalidType = "Invalid type"

// secret tells whether its value must not be shown.
func (v variable) secret() bool { return v.sensitive || secretName.MatchString(v.name) }

// addVariable reads a variable block. One in an override file changes what the
// others say.
func (m *module) addVariable(root string, block *hcl.Block) {
	name := block.Labels[0]
	v, known := m.variables[name]
	if !known {
		at := inModule(root, block.DefRange)
		v = variable{name: name, at: at, typeAt: at, constraint: cty.DynamicPseudoType}
	}
	if _, ok := literal(block.Body, "default"); ok {
		v.optional = true
	}
	if value, ok := literal(block.Body, "sensitive"); ok {
		v.sensitive = value.RawEquals(cty.True)
	}
	if value, ok := literal(block.Body, "nullable"); ok {
		v.notNull = value.RawEquals(cty.False)
	}
	content, _, _ := block.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "type"}}})
	if attr := content.Attributes["type"]; attr != nil {
		v.typeAt = inModule(root, attr.NameRange)
		constraint, defaults, diags := typeConstraint(attr.Expr)
		if diags.HasErrors() {
			at := v.typeAt
			if d := diags[0]; d.Subject != nil {
				at = inModule(root, *d.Subject)
			}
			m.problems = append(m.problems, mistake(invalidType, at, "the type of its variable %q is none: %s", name, strings.TrimSuffix(diags[0].Detail, ".")))
			constraint, defaults = cty.DynamicPseudoType, nil
		}
		v.constraint, v.defaults = constraint, defaults
	}
	m.variables[name] = v
}

// typeConstraint reads the type of a variable as Terraform does, which takes list
// and map for lists and maps of anything.
func typeConstraint(e hcl.Expression) (cty.Type, *typeexpr.Defaults, hcl.Diagnostics) {
	switch hcl.ExprAsKeyword(e) {
	case "list":
		return cty.List(cty.DynamicPseudoType), nil, nil
	case "map":
		return cty.Map(cty.DynamicPseudoType), nil, nil
	}
	return typeexpr.TypeConstraintWithDefaults(e)
}

// checkVariables compares the variables that a module declares with what a pool
// gives it. whose begins the sentences: "its", for the module itself.
func (m module) checkVariables(given map[string]any, whose string) []Problem {
	var problems []Problem
	for _, name := range m.own() {
		v := m.variables[name]
		value, ok := given[name]
		if !ok {
			if !v.optional {
				p := mistake("Missing variable", v.at, "%s variable %q has no default, and the pool does not set it", whose, name).
					hint("set it in the pool, or give it a default in the module")
				p.Variable, p.Missing = name, true
				problems = append(problems, p)
			}
			continue
		}
		if wrong := v.refuses(value); wrong != "" {
			problems = append(problems, mistake("Wrong type", v.typeAt, "%s variable %q does not take what the pool gives it: %s", whose, name, wrong).
				of(name, v.secret()))
		}
	}
	return problems
}

// of says which of the pool's variables a problem is about.
func (p Problem) of(name string, secret bool) Problem {
	p.Argument, p.Variable, p.Secret = "variables", name, secret
	return p
}

// refuses says why the variable does not take a value, which is decoded JSON, or
// gives "". It says nothing of what is in the value of a secret one.
func (v variable) refuses(value any) string {
	given, err := toCty(value)
	if err != nil {
		return "" // it is JSON: only Terraform can say
	}
	if given.IsNull() {
		if v.notNull && !v.optional {
			return "it must not be null"
		}
		return ""
	}
	if v.defaults != nil {
		given = v.defaults.Apply(given)
	}
	if _, err = convert.Convert(given, v.constraint); err == nil {
		return ""
	}
	if v.secret() {
		return "a " + v.constraint.FriendlyNameForConstraint() + " is required"
	}
	if path := (cty.PathError{}); errors.As(err, &path) && len(path.Path) > 0 {
		return fmt.Sprintf("in %s%s, %s", v.name, pathText(path.Path), strings.TrimSuffix(err.Error(), "."))
	}
	return strings.TrimSuffix(err.Error(), ".")
}

// toCty gives decoded JSON as the value that Terraform makes of it.
func toCty(value any) (cty.Value, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return cty.NilVal, err
	}
	kind, err := ctyjson.ImpliedType(text)
	if err != nil {
		return cty.NilVal, err
	}
	return ctyjson.Unmarshal(text, kind)
}

// pathText writes the steps into a value as expressions do.
func pathText(path cty.Path) string {
	var text strings.Builder
	for _, step := range path {
		switch step := step.(type) {
		case cty.GetAttrStep:
			text.WriteString("." + step.Name)
		case cty.IndexStep:
			switch key := step.Key; {
			case key.Type() == cty.String && key.IsKnown() && !key.IsNull():
				fmt.Fprintf(&text, "[%q]", key.AsString())
			case key.Type() == cty.Number && key.IsKnown() && !key.IsNull():
				fmt.Fprintf(&text, "[%s]", key.AsBigFloat().Text('f', -1))
			default:
				text.WriteString("[...]")
			}
		}
	}
	return text.String()
}

// brokerExample has the attributes of what nodes get as the variable "broker": see
// [Engine.variables].
func brokerExample() map[string]any {
	return map[string]any{
		"id": "", "node_id": "", "pool": "", "hostname": "", "directory": "",
		"tags": map[string]string{"": ""}, "ssh_public_keys": []string{""},
		"url": "", "token": "", "ssh_host_key": map[string]string{"private_key": "", "public_key": ""},
	}
}

// secrets lists the variables whose values must not be shown.
func (m module) secrets() []string {
	names := slices.Sorted(maps.Keys(m.variables))
	return slices.DeleteFunc(names, func(name string) bool { return !m.variables[name].secret() })
}
