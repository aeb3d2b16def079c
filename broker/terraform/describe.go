package terraform

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Description is what people ask of a module before they use it.
type Description struct {
	// Variables are the pool's to set, in the order of the module's files.
	Variables []DescribedVariable `json:"variables"`
	Outputs   []DescribedOutput   `json:"outputs"`
	Providers []DescribedProvider `json:"providers"`
	// Terraform is the constraint on its version, or "".
	Terraform string `json:"required_version,omitempty"`
	// Errors are the classes of errors that it knows words for, sorted.
	Errors []broker.FailureClass `json:"errors"`
	// Sweep: it can list what exists of its nodes.
	Sweep bool `json:"sweep"`
}

// DescribedVariable is an input of a module.
type DescribedVariable struct {
	Name        string `json:"name"`
	Type        string `json:"type"` // as Terraform writes it, in one line
	Description string `json:"description,omitempty"`
	// Default is nil where a pool must set it. One that is no literal is null.
	Default   json.RawMessage `json:"default,omitempty"`
	Required  bool            `json:"required"`
	Sensitive bool            `json:"sensitive,omitempty"`
}

// DescribedOutput is an output of a module.
type DescribedOutput struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// DescribedProvider is a provider that a module, or its sweep configuration, uses.
type DescribedProvider struct {
	Name    string `json:"name"`
	Source  string `json:"source"`
	Version string `json:"version,omitempty"` // the constraint
}

// Describe reads the module in a directory. Of modules that it calls it tells
// nothing. [broker.CodeInvalid] where there is none, or it can't be read.
func Describe(dir string) (Description, error) {
	d := Description{Variables: []DescribedVariable{}, Outputs: []DescribedOutput{}, Providers: []DescribedProvider{}, Errors: []broker.FailureClass{}, Sweep: hasSweep(dir)}
	if len(moduleFiles(dir)) == 0 {
		return d, broker.Errorf(broker.CodeInvalid, "there is no Terraform module in %s", dir).WithHint("name a directory with .tf files, or one of those of `duffy-broker modules list`")
	}
	m, diags := readModule(dir, dir)
	if diags.HasErrors() {
		return d, broker.Errorf(broker.CodeInvalid, "the module in %s can't be read: %s", dir, syntaxProblems(dir, diags)[0])
	}
	parser := hclparse.NewParser()
	versions := make(map[string]string)
	for _, path := range m.files {
		parse := parser.ParseHCLFile
		if strings.HasSuffix(path, ".json") {
			parse = parser.ParseJSONFile
		}
		file, _ := parse(path) // readModule has
		content, _, _ := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "variable", LabelNames: []string{"name"}}, {Type: "output", LabelNames: []string{"name"}}, {Type: "terraform"},
		}})
		for _, block := range content.Blocks {
			switch block.Type {
			case "variable":
				if v := m.variables[block.Labels[0]]; v.name != brokerVariable {
					d.Variables = append(d.Variables, describeVariable(v, block.Body))
				}
			case "output":
				d.Outputs = append(d.Outputs, DescribedOutput{block.Labels[0], words(block.Body, "description")})
			case "terraform":
				d.Terraform = cmp.Or(words(block.Body, "required_version"), d.Terraform)
				maps.Copy(versions, providerVersions(block.Body))
			}
		}
	}
	used := m.providers
	if sweep, ok, _ := readSweep(dir); ok {
		for name, at := range sweep.providers.used {
			used.configure(name, at)
			used.sources[name] = cmp.Or(used.sources[name], sweep.providers.sources[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(used.used)) {
		one := requirements{used: map[string]hcl.Range{name: {}}, sources: used.sources}
		for source := range one.addresses() { // none for what is part of Terraform
			d.Providers = append(d.Providers, DescribedProvider{name, source, versions[name]})
		}
	}
	rules, _ := readErrorRules(dir)
	for _, rule := range rules {
		d.Errors = append(d.Errors, rule.class)
	}
	slices.Sort(d.Errors)
	d.Errors = slices.Compact(d.Errors)
	return d, nil
}

func describeVariable(v variable, body hcl.Body) DescribedVariable {
	d := DescribedVariable{Name: v.name, Type: typeText(v.constraint), Description: words(body, "description"), Required: !v.optional, Sensitive: v.secret()}
	if value, ok := literal(body, "default"); ok {
		d.Default = json.RawMessage("null")
		if text, err := ctyjson.Marshal(value, value.Type()); err == nil && value.IsWhollyKnown() {
			d.Default = text
		}
	}
	return d
}

// words gives a text of a block in one line, "" where there is none.
func words(body hcl.Body, name string) string {
	v, ok := literal(body, name)
	if !ok || v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
		return ""
	}
	return strings.Join(strings.Fields(v.AsString()), " ")
}

// providerVersions gives the version constraints of a terraform block.
func providerVersions(body hcl.Body) map[string]string {
	versions := make(map[string]string)
	content, _, _ := body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "required_providers"}}})
	for _, block := range content.Blocks {
		attributes, _ := block.Body.JustAttributes()
		for name, attr := range attributes {
			pairs, diags := hcl.ExprMap(attr.Expr)
			if diags.HasErrors() { // a version alone
				if v, _ := attr.Expr.Value(nil); v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
					versions[name] = v.AsString()
				}
				continue
			}
			for _, pair := range pairs {
				key, _ := pair.Key.Value(nil)
				v, _ := pair.Value.Value(nil)
				if (hcl.ExprAsKeyword(pair.Key) == "version" || key.RawEquals(cty.StringVal("version"))) && v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
					versions[name] = v.AsString()
				}
			}
		}
	}
	return versions
}

// typeText writes a type as Terraform has it, in one line.
func typeText(t cty.Type) string {
	switch {
	case t == cty.DynamicPseudoType:
		return "any"
	case t == cty.Bool:
		return "bool"
	case t.IsPrimitiveType():
		return t.FriendlyName()
	case t.IsListType():
		return "list(" + typeText(t.ElementType()) + ")"
	case t.IsSetType():
		return "set(" + typeText(t.ElementType()) + ")"
	case t.IsMapType():
		return "map(" + typeText(t.ElementType()) + ")"
	case t.IsTupleType():
		var parts []string
		for _, element := range t.TupleElementTypes() {
			parts = append(parts, typeText(element))
		}
		return "tuple([" + strings.Join(parts, ", ") + "])"
	case t.IsObjectType():
		var parts []string
		attributes := t.AttributeTypes()
		for _, name := range slices.Sorted(maps.Keys(attributes)) {
			text := typeText(attributes[name])
			if t.AttributeOptional(name) {
				text = "optional(" + text + ")"
			}
			parts = append(parts, fmt.Sprintf("%s = %s", name, text))
		}
		return "object({ " + strings.Join(parts, ", ") + " })"
	}
	return t.FriendlyName()
}
