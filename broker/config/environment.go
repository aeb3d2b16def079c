package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// allowed says which variables of the environment may be read, and where that
// stands: nowhere without an environment block.
type allowed struct {
	names []string
	at    *hcl.Range
}

// environment reads the environment block. It comes before everything that may
// use it.
func (l *loader) environment(blocks []*hclsyntax.Block) {
	l.once(blocks)
	for i, block := range blocks {
		b := l.open(block.Body, "an environment block")
		names := read(b, "allow", form[[]string]{variableNames, "a list of names", schema{"type": "array", "items": schema{"type": "string"}}},
			"The names of the variables that may be read.", "none")
		b.finish()
		if i == 0 {
			l.allowed.names = names.or(nil)
			at := block.DefRange()
			if names.set {
				at = names.at
			}
			l.allowed.at = &at
		}
	}
}

// variableNames parses a list of names of variables of the environment.
func variableNames(v cty.Value) ([]string, complaint) {
	listed, err := convert.Convert(v, cty.List(cty.String))
	if err != nil {
		return nil, mustBe(`a list of names such as ["REGION"]`, v)
	}
	var names []string
	for _, element := range listed.AsValueSlice() {
		switch {
		case element.IsNull():
			return nil, "must be a list of names, and one of them is null."
		case !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(element.AsString()):
			return nil, complaint(fmt.Sprintf("holds %q, which is no name of a variable: these are made of letters, digits and '_'. Patterns are not taken.", element.AsString()))
		}
		names = append(names, element.AsString())
	}
	return names, ""
}

// env reads a variable of the environment, if that is allowed. The environment of
// a process does not change, so two readings give the same.
func (l *loader) env() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{parameter("name", cty.String)},
		VarParam: &function.Parameter{Name: "default", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if len(args) > 2 {
				return cty.NilVal, function.NewArgErrorf(2, "env takes a name, and a default for when it is not set")
			}
			if !slices.Contains(l.allowed.names, name) {
				if l.allowed.at == nil {
					return cty.NilVal, fmt.Errorf("%s may not be read here; write environment { allow = [%q] }", name, name)
				}
				return cty.NilVal, fmt.Errorf("%s may not be read here; add it to allow, at %s", name, place(*l.allowed.at))
			}
			if value, set := os.LookupEnv(name); set {
				return cty.StringVal(strings.ToValidUTF8(value, "\uFFFD")), nil
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NilVal, fmt.Errorf("%s is not set in the environment; set it, or give a default: env(%q, \"...\")", name, name)
		},
	})
}
