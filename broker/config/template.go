package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// templateFile renders a file with variables. others are the functions that it
// may call: no templates in templates, or one could go on for ever.
func templateFile(dir string, others map[string]function.Function) function.Function {
	return templateFunction(parameter("path", cty.String), others, func(path cty.Value) (string, []byte, error) {
		name := path.AsString()
		src, err := readFile(dir, name)
		if err == nil && !utf8.Valid(src) {
			err = fmt.Errorf("%s is not UTF-8", name)
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, src, err
	})
}

// templateString is templateFile for a text that is at hand.
func templateString(others map[string]function.Function) function.Function {
	return templateFunction(parameter("template", cty.String), others, func(text cty.Value) (string, []byte, error) {
		return "the template", []byte(text.AsString()), nil
	})
}

func templateFunction(first function.Parameter, others map[string]function.Function, source func(cty.Value) (string, []byte, error)) function.Function {
	render := func(args []cty.Value) (cty.Value, error) {
		name, src, err := source(args[0])
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		expr, diags := hclsyntax.ParseTemplate(src, name, hcl.InitialPos)
		if diags.HasErrors() {
			return cty.NilVal, function.NewArgError(0, diagnosticError(diags))
		}
		kind := args[1].Type()
		if !kind.IsObjectType() && !kind.IsMapType() {
			return cty.NilVal, function.NewArgErrorf(1, "must be an object, { NAME = VALUE, ... }")
		}
		context := &hcl.EvalContext{Variables: args[1].AsValueMap(), Functions: others}
		for _, t := range expr.Variables() {
			if _, ok := context.Variables[t.RootName()]; !ok {
				err := fmt.Errorf("lacks %q, which %s uses", t.RootName(), place(t.SourceRange()))
				if near := suggest(t.RootName(), slices.Sorted(maps.Keys(context.Variables))); near != "" {
					err = fmt.Errorf("%w (it has %q)", err, near)
				}
				return cty.NilVal, function.NewArgError(1, err)
			}
		}
		v, diags := expr.Value(context)
		if diags.HasErrors() {
			return cty.NilVal, function.NewArgError(0, diagnosticError(diags))
		}
		return v, nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{first, parameter("vars", cty.DynamicPseudoType)},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || !args[1].IsKnown() {
				return cty.DynamicPseudoType, nil
			}
			v, err := render(args)
			if err != nil {
				return cty.NilType, err
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return render(args) },
	})
}

// diagnosticError gives the first mistake in a template, with its place there.
func diagnosticError(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		if d.Subject == nil {
			return errors.New(strings.TrimSuffix(d.Detail, "."))
		}
		return fmt.Errorf("%s: %s: %s", place(*d.Subject), d.Summary, strings.TrimSuffix(d.Detail, "."))
	}
	return nil
}
