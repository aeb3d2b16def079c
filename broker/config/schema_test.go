package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/santhosh-tekuri/jsonschema/v6"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

// compileSchema gives the schema, itself checked against that of JSON Schema.
func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("pools.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("pools.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// jsonBody gives the JSON syntax of what stands in a block.
func jsonBody(t *testing.T, body *hclsyntax.Body, src []byte) map[string]any {
	t.Helper()
	result := make(map[string]any)
	for name, attr := range body.Attributes {
		v, diags := attr.Expr.Value(nil)
		if diags.HasErrors() || !v.IsWhollyKnown() {
			result[name] = "${" + string(attr.Expr.Range().SliceBytes(src)) + "}"
			continue
		}
		text, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			t.Fatal(err)
		}
		result[name] = json.RawMessage(text)
	}
	for _, block := range body.Blocks {
		inside := any(jsonBody(t, block.Body, src))
		into, key := result, block.Type
		for _, label := range block.Labels {
			next, ok := into[key].(map[string]any)
			if !ok {
				next = make(map[string]any)
				into[key] = next
			}
			into, key = next, label
		}
		switch earlier := into[key].(type) {
		case nil:
			into[key] = inside
		case []any:
			into[key] = append(earlier, inside)
		default:
			into[key] = []any{earlier, inside}
		}
	}
	return result
}

func jsonFile(t *testing.T, path string) any {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	text, err := json.Marshal(jsonBody(t, file.Body.(*hclsyntax.Body), src))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What Load accepts, the schema accepts.
func TestSchema_acceptsGoodFiles(t *testing.T) {
	s := compileSchema(t)
	for _, path := range files(t, "testdata/*.good.hcl") {
		if strings.HasSuffix(path, "/values.good.hcl") {
			continue // numbers in quotes are read, and better flagged in an editor
		}
		if err := s.Validate(jsonFile(t, path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Mistakes that are of structure, the schema finds too.
func TestSchema_refusesBadFiles(t *testing.T) {
	s := compileSchema(t)
	for _, name := range []string{
		"account-rate-missing", "account-rate-misspelt", "attribute-at-top", "attribute-in-ready", "attribute-misspelt", "block-misspelt",
		"block-unknown-in-pool", "concurrency-zero", "contextualize-misspelt", "description-list", "duplicate-defaults", "fill-level-fraction",
		"fill-level-huge", "fill-level-negative", "legacy-day", "legacy-map-no-pool", "legacy-when-empty", "moved-from-missing", "account-share-one",
		"name-missing", "ready-ssh", "variables-list",
	} {
		if err := s.Validate(jsonFile(t, "testdata/bad/"+name+".hcl")); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// What an editor shows has no marks of Markdown.
func TestSchema_plainWords(t *testing.T) {
	for line := range strings.Lines(string(config.Schema())) {
		if strings.Contains(line, `"description"`) && (strings.Contains(line, "`") || strings.Contains(line, "](")) {
			t.Errorf("marks are left: %s", line)
		}
	}
}
